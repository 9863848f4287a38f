// The pointer on the stage: it paints, moves and zooms; and what was painted can be undone.

import { LineTool } from "./line.js";
import { encodeRuns } from "./runs.js";
import { Stroke, inverse } from "./strokes.js";

const MOST_UNDO = 100;
const LARGEST_FILL = 400_000;
// On the screen: so near to the first corner, a click closes a polygon.
const NEAR_PX = 8;
const GO_ON = "Click the other corners; Enter, a double click or the first corner closes it.";

export class Painter {
  // `on` has: changed() after what can be undone has changed, say(text) for people and withdraw(text) to take it back,
  // keyOf(volume) as `LineTool` has it, and within(), the rectangle that a fill which begins in it does not leave.
  constructor(stage, saver, activity, on) {
    Object.assign(this, { stage, saver, activity, on, tool: "brush", size: 5, stroke: null, last: null });
    Object.assign(this, { done: [], undone: [], pointers: new Map(), panning: null, penSeen: false });
    this.line = new LineTool(this, on.keyOf);
    const canvas = stage.marksCanvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => { stage.cursor = null; stage.redraw(); });
    canvas.addEventListener("dblclick", () => this.close());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      stage.zoomBy(1.0015 ** -(event.deltaMode ? event.deltaY * 30 : event.deltaY), event.offsetX, event.offsetY);
    }, { passive: false });
  }

  get mask() { return this.stage.mask; }

  setTool(tool) {
    this.cancel();
    this.tool = tool;
    this.hover();
  }

  setSize(size) {
    this.size = Math.max(1, Math.min(60, size));
    this.hover();
  }

  // Why nothing can be painted just now; empty where it can.
  obstacle() {
    if (this.stage.drawn?.level > 0) return "Zoom in to paint: single pixels are not shown at this scale.";
    if (!this.stage.drawn || this.stage.drawn.missing) return "The mask is still loading.";
    return this.stage.hidden ? "The mask is hidden: Hide shows it again." : "";
  }

  down(event) {
    const { stage } = this;
    stage.marksCanvas.focus({ preventScroll: true });
    stage.marksCanvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    this.penSeen ||= event.pointerType === "pen";
    const touches = event.pointerType === "touch" && (this.penSeen || this.pointers.size > 1);
    if (event.button === 1 || event.button === 2 || this.tool === "move" || touches) {
      this.cancelStroke();
      this.panning = true;
      return;
    }
    if (event.button !== 0) return;
    const obstacle = this.obstacle();
    if (obstacle) { this.on.say(obstacle); return; }
    const pixel = stage.pixelAt(event.offsetX, event.offsetY);
    if (this.tool === "polygon") {
      this.corner(pixel);
    } else if (this.tool === "fill") {
      this.fill(pixel);
    } else if (this.tool === "line") {
      this.line.click(pixel);
    } else {
      this.stroke = new Stroke(this.mask, this.tool === "brush" ? 1 : 0);
      this.stroke.line(pixel, pixel, this.size);
      this.last = pixel;
      stage.redraw();
    }
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    const at = { x: event.offsetX, y: event.offsetY };
    if (before && this.panning) {
      const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      this.stage.panBy((at.x - before.x) / this.pointers.size, (at.y - before.y) / this.pointers.size);
      if (others.length === 1) {
        const spread = (point) => Math.hypot(point.x - others[0].x, point.y - others[0].y);
        this.stage.zoomBy(spread(at) / Math.max(1, spread(before)), (at.x + others[0].x) / 2, (at.y + others[0].y) / 2);
      }
    }
    if (before) this.pointers.set(event.pointerId, at);
    if (this.stroke) {
      const passed = event.getCoalescedEvents?.() ?? [];
      for (const point of passed.length ? passed : [event]) {
        const pixel = this.stage.pixelAt(point.offsetX, point.offsetY);
        this.stroke.line(this.last, pixel, this.size);
        this.last = pixel;
      }
    }
    this.hover(at);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (!this.pointers.size) this.panning = null;
    if (!this.stroke) return;
    if (event.type === "pointercancel") this.cancelStroke();
    else this.finish(this.stroke, this.tool);
    this.stroke = null;
  }

  // Draws the outline of the brush where the pointer is.
  hover(at = this.at) {
    this.at = at;
    if (!at || !this.stage.isReady) return;
    const size = this.tool === "brush" || this.tool === "eraser" ? this.size : 0;
    this.stage.cursor = { pixel: this.stage.pixelAt(at.x, at.y), size };
    this.line.hover(this.stage.cursor.pixel);
    this.stage.redraw();
  }

  cancelStroke() {
    this.stroke?.cancel();
    this.stroke = null;
    this.stage.redraw();
  }

  cancel() {
    this.cancelStroke();
    this.line.end();
    this.takePolygon();
    this.stage.redraw();
  }

  // Ends what takes several clicks.
  close() {
    if (this.tool === "line") this.line.finish();
    else this.closePolygon();
  }

  corner(pixel) {
    const { stage } = this;
    const [first] = stage.polygon ?? [];
    if (first && stage.polygon.length > 2 && Math.hypot(pixel[0] - first[0], pixel[1] - first[1]) * stage.view().scale < NEAR_PX) {
      this.closePolygon();
      return;
    }
    if (!first) this.on.say(GO_ON);
    (stage.polygon ??= []).push(pixel);
    stage.redraw();
  }

  // Ends the polygon that is being drawn, and returns its corners.
  takePolygon() {
    const { polygon } = this.stage;
    this.stage.polygon = null;
    this.on.withdraw(GO_ON);
    return polygon;
  }

  closePolygon() {
    const polygon = this.takePolygon();
    if (!polygon || polygon.length < 3) { this.stage.redraw(); return; }
    const stroke = new Stroke(this.mask, 1);
    stroke.polygon(polygon);
    this.finish(stroke, "polygon");
  }

  fill([y, x]) {
    const old = this.mask.get(y, x);
    if (old === undefined) return;
    const stroke = new Stroke(this.mask, 1);
    if (stroke.fill(y, x, LARGEST_FILL, this.on.within())) {
      // All membrane hangs together: more may go than whoever pointed at a piece of it meant.
      if (old) this.on.say(`Emptied: ${stroke.flipped.size.toLocaleString("en")} px of membrane are gone. Undo brings them back.`);
      this.finish(stroke, "fill");
      return;
    }
    stroke.cancel();
    this.on.say("This area is not closed, or too large to fill.");
    this.stage.redraw();
  }

  // Takes the pixels of a rectangle as they are proposed.
  replace(place, pixels, tool) {
    const stroke = new Stroke(this.mask, 1);
    pixels.forEach((value, i) => stroke.set(place.y + Math.floor(i / place.width), place.x + (i % place.width), value));
    return this.finish(stroke, tool);
  }

  // Sends what a stroke has changed and keeps it for undo; returns whether it has changed anything.
  finish(stroke, tool) {
    const changes = stroke.changes();
    if (changes.length) {
      this.send(changes, tool);
      this.note(changes);
    }
    this.stage.redraw();
    return changes.length > 0;
  }

  send(changes, tool) {
    for (const { place, flips } of changes) {
      const body = { place, runs: encodeRuns(flips), tool, active_seconds: this.activity.take() };
      this.saver.send("api/corrections", place, body);
    }
  }

  // Notes something else than a stroke that undo takes back: `step.undo()` returns false where it cannot be done here.
  note(step) {
    this.done.push(step);
    this.done.splice(0, Math.max(0, this.done.length - MOST_UNDO));
    this.undone = [];
    this.on.changed();
  }

  // Leaves pixels of a stroke to others who have painted them too: to undo the stroke takes nothing of theirs back.
  concede(place, flips) {
    for (const change of [...this.done, ...this.undone].flatMap((step) => (step.undo ? [] : step)))
      if (change.place === place) change.flips = change.flips.map((flip, i) => flip & (1 - flips[i]));
  }

  // Takes back the stroke of a rectangle that was sent, whatever was painted since.
  takeBack(place) {
    const holds = (step) => !step.undo && step.some((change) => change.place === place);
    const [done, undone] = [this.done.find(holds), this.undone.find(holds)];
    if (done) this.turn(this.done, this.undone, "undo", done);
    else if (undone) this.turn(this.undone, this.done, "redo", undone);
  }

  undo() { return this.turn(this.done, this.undone, "undo"); }
  redo() { return this.turn(this.undone, this.done, "redo"); }

  async turn(from, to, tool, step = from.at(-1)) {
    this.cancel();
    if (!step) { this.on.say(`Nothing to ${tool}.`); return; }
    if (step.undo) {
      if (step.undo() !== false) from.pop();
      this.on.changed();
      return;
    }
    const { mask } = this;
    const [{ place }] = step;
    if (place.volume !== mask.volume.name || place.z !== mask.z) {
      this.on.say(`The last stroke is in section ${place.z} of ${place.volume}: go there to ${tool} it.`);
      return;
    }
    from.splice(from.indexOf(step), 1);
    for (const change of step) await mask.whenLoaded(change.place);
    const changes = inverse(mask, step).changes();
    if (changes.length) {
      this.send(changes, tool);
      to.push(changes);
      if (this.stage.reveal(place)) this.on.say(`Out of sight till now: here is what was ${tool === "undo" ? "undone" : "redone"}.`);
    }
    this.stage.redraw();
    this.on.changed();
  }
}
