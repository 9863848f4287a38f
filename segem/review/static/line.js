// The tool that draws a line along a membrane: a click begins it, each further click draws it up to there.

import { Ways, costOf, medianWidth, readWindow } from "./ridge.js";
import { Stroke } from "./strokes.js";

const WIDTH_PX = 256;
const GO_ON = "Click further along the membrane; Enter or a double click ends the line.";

export class LineTool {
  // `keyOf(volume)` gives the picture that is followed, and whether it is a probability.
  constructor(painter, keyOf) {
    Object.assign(this, { painter, keyOf, ways: null, turn: 0, queue: Promise.resolve() });
  }

  get stage() { return this.painter.stage; }

  // Takes a click: the first begins a line, and each other draws it and goes on from there. One after the other, however
  // fast they come, since each begins where the one before has ended.
  click(pixel) {
    const { turn } = this;
    this.queue = this.queue.then(() => (turn === this.turn ? this.take(pixel) : null)).catch((error) => this.painter.on.say(error.message));
    return this.queue;
  }

  async take(pixel) {
    const { turn, stage, ways } = this;
    const { mask } = stage;
    let from = pixel;
    if (ways) {
      const way = ways.to(pixel);
      from = way.at(-1);
      await this.draw(way);
    } else {
      this.painter.on.say(GO_ON);
    }
    const { key, isProbability } = this.keyOf(mask.volume);
    const window = await readWindow(key, mask.volume, mask.z, from);
    if (turn !== this.turn) return;
    this.ways = new Ways(window, costOf(window, isProbability), from);
    this.width = isProbability ? this.widthAt(from) : this.painter.size;
    this.hover(stage.cursor?.pixel ?? from);
  }

  // As wide as the membranes around are in the mask; as the brush where it has none.
  widthAt([y, x]) {
    const around = { y: y - WIDTH_PX / 2, x: x - WIDTH_PX / 2, height: WIDTH_PX, width: WIDTH_PX };
    return medianWidth(this.stage.mask.read(around), WIDTH_PX, this.painter.size);
  }

  hover(pixel) {
    if (!this.ways) return;
    this.stage.path = { pixels: this.ways.to(pixel), width: this.width };
    this.stage.redraw();
  }

  async draw(way) {
    const { turn, width } = this;
    const { mask } = this.painter;
    const [ys, xs] = [0, 1].map((axis) => way.map((pixel) => pixel[axis]));
    const [y, x] = [ys, xs].map((at) => Math.max(0, Math.min(...at) - width));
    await mask.whenLoaded({ y, x, height: Math.max(...ys) + width - y, width: Math.max(...xs) + width - x });
    if (turn !== this.turn) return;
    const stroke = new Stroke(mask, 1);
    for (const pixel of way) stroke.line(pixel, pixel, width);
    this.painter.finish(stroke, "line");
  }

  // Ends the line once all clicks are drawn.
  finish() { this.queue = this.queue.then(() => this.end()); }

  // Drops what is not drawn yet.
  end() {
    this.turn += 1;
    this.ways = null;
    this.stage.path = null;
    this.painter.on.withdraw(GO_ON);
    this.stage.redraw();
  }
}
