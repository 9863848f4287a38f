// The mask of one section: tiles of pixels, loaded as they are seen, and drawn onto a canvas above the image.

import { getBits } from "./api.js";
import { decodeRuns } from "./runs.js";

const MOST_TILES = 400;
// Below so many canvas pixels for one of the section, coarser levels are drawn, and nothing can be painted.
const FINE_SCALE = 0.2;

export class Mask {
  // `caughtUp(entry)` resolves when nothing is being saved, and all changes up to an entry are known: all tiles then hold
  // the same changes, those that the server is told were seen.
  constructor(volume, z, tilePx, caughtUp, changed) {
    Object.assign(this, { volume, z, tilePx, caughtUp, changed });
    this.tiles = new Map();
    this.made = [];
  }

  get height() { return this.volume.shape[1]; }
  get width() { return this.volume.shape[2]; }

  tile(level, row, column) {
    const key = `${level}/${row}/${column}`;
    let tile = this.tiles.get(key);
    if (!tile) {
      tile = { level, row, column, pixels: null, canvas: null, drawn: "", used: 0 };
      this.tiles.set(key, tile);
      this.load(tile).catch(() => this.tiles.delete(key));
    }
    tile.used = performance.now();
    return tile;
  }

  async load(tile) {
    const path = `api/mask/${encodeURIComponent(this.volume.name)}/${tile.level}/${this.z}/${tile.row}/${tile.column}`;
    const { pixels, height, width, entry } = await getBits(path);
    await this.caughtUp(entry);
    Object.assign(tile, { pixels, height, width, entry, drawn: "" });
    if (tile.level === 0) for (const change of this.made) if (change.number > entry) this.flipTile(tile, change);
    this.drop();
    this.changed();
  }

  drop() {
    if (this.tiles.size <= MOST_TILES) return;
    const oldest = [...this.tiles.entries()].filter(([, t]) => t.pixels).sort(([, a], [, b]) => a.used - b.used);
    for (const [key] of oldest.slice(0, this.tiles.size - MOST_TILES)) this.tiles.delete(key);
  }

  // Whether all pixels of a rectangle are here, so that it can be painted on; those that are not are asked for.
  isLoaded({ y, x, height, width }) {
    let loaded = true;
    this.eachTile(y, x, height, width, (row, column) => { loaded = Boolean(this.tile(0, row, column).pixels) && loaded; });
    return loaded;
  }

  async whenLoaded(place) {
    while (!this.isLoaded(place)) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  eachTile(y, x, height, width, visit) {
    const px = this.tilePx;
    const last = (edge, limit) => Math.floor((Math.min(edge, limit) - 1) / px);
    for (let row = Math.floor(Math.max(y, 0) / px); row <= last(y + height, this.height); row += 1)
      for (let column = Math.floor(Math.max(x, 0) / px); column <= last(x + width, this.width); column += 1) visit(row, column);
  }

  // A pixel; undefined beyond the edges and where nothing is loaded.
  get(y, x) {
    if (y < 0 || x < 0 || y >= this.height || x >= this.width) return undefined;
    const tile = this.tiles.get(`0/${Math.floor(y / this.tilePx)}/${Math.floor(x / this.tilePx)}`);
    if (!tile?.pixels) return undefined;
    return tile.pixels[(y % this.tilePx) * tile.width + (x % this.tilePx)];
  }

  // Flips a pixel; not on a tile that came from the server with the change of this number in it.
  flip(y, x, number = Infinity) {
    const tile = this.tiles.get(`0/${Math.floor(y / this.tilePx)}/${Math.floor(x / this.tilePx)}`);
    if (!tile?.pixels || tile.entry >= number) return;
    tile.pixels[(y % this.tilePx) * tile.width + (x % this.tilePx)] ^= 1;
    tile.drawn = "";
  }

  // The pixels of a rectangle, 0 where nothing is loaded.
  read({ y, x, height, width }) {
    const pixels = new Uint8Array(height * width);
    for (let i = 0; i < height; i += 1) for (let j = 0; j < width; j += 1) pixels[i * width + j] = this.get(y + i, x + j) ?? 0;
    return pixels;
  }

  // Flips the pixels of a change on the tiles that are here.
  flipAll({ place, flips, number }) {
    for (let i = 0; i < place.height; i += 1)
      for (let j = 0; j < place.width; j += 1) if (flips[i * place.width + j]) this.flip(place.y + i, place.x + j, number);
    for (const [key, tile] of this.tiles) if (tile.level > 0) this.tiles.delete(key);
    this.changed();
  }

  flipTile(tile, { place, flips }) {
    const [top, left] = [tile.row * this.tilePx, tile.column * this.tilePx];
    for (let y = Math.max(top, place.y); y < Math.min(top + tile.height, place.y + place.height); y += 1)
      for (let x = Math.max(left, place.x); x < Math.min(left + tile.width, place.x + place.width); x += 1)
        tile.pixels[(y - top) * tile.width + x - left] ^= flips[(y - place.y) * place.width + x - place.x];
  }

  // Notes changes that the server has numbered, and returns those that are new; `mine` are on the tiles already.
  note(changes, mine = false) {
    const known = new Set(this.made.map((change) => change.number));
    const found = changes.filter(({ number }) => !known.has(number))
      .map(({ number, place, runs }) => ({ number, place, flips: decodeRuns(runs, place.height * place.width) }));
    this.made.push(...found);
    if (!mine) for (const change of found) this.flipAll(change);
    return found;
  }

  // Draws what is visible; `view` has the place of pixel (0, 0) on the canvas and the scale, both in canvas pixels.
  draw(context, view, colour) {
    const { width, height } = context.canvas;
    const level = Math.max(0, Math.min(this.volume.levels - 1, Math.ceil(Math.log2(FINE_SCALE / view.scale))));
    const step = 2 ** level * this.tilePx;
    context.imageSmoothingEnabled = false;
    let missing = false;
    const first = (origin) => Math.max(0, Math.floor(-origin / view.scale / step));
    for (let row = first(view.y); row * step < this.height && view.y + row * step * view.scale < height; row += 1) {
      for (let column = first(view.x); column * step < this.width && view.x + column * step * view.scale < width; column += 1) {
        const tile = this.tile(level, row, column);
        if (!tile.pixels) { missing = true; continue; }
        // Edges on whole pixels of the canvas: tiles that share a pixel would be seen as a line.
        const [x0, y0] = [view.x + column * step * view.scale, view.y + row * step * view.scale].map(Math.round);
        const x1 = Math.round(view.x + Math.min((column + 1) * step, column * step + tile.width * 2 ** level) * view.scale);
        const y1 = Math.round(view.y + Math.min((row + 1) * step, row * step + tile.height * 2 ** level) * view.scale);
        context.drawImage(paint(tile, colour), x0, y0, x1 - x0, y1 - y0);
      }
    }
    return { level, missing };
  }
}

// Returns the tile as a canvas of one colour, made anew only where it has changed.
function paint(tile, colour) {
  const key = colour.join();
  if (tile.drawn === key) return tile.canvas;
  tile.canvas ??= new OffscreenCanvas(tile.width, tile.height);
  const image = new ImageData(tile.width, tile.height);
  const words = new Uint32Array(image.data.buffer);
  const [red, green, blue] = colour;
  const word = (255 << 24) | (blue << 16) | (green << 8) | red;
  for (let i = 0; i < words.length; i += 1) words[i] = tile.pixels[i] ? word : 0;
  tile.canvas.getContext("2d").putImageData(image, 0, 0);
  tile.drawn = key;
  return tile.canvas;
}

// Leaves the outline of what is drawn: what is left when the same, moved by a pixel or two to each side, is taken away.
export function outline(context, scratch, thickness) {
  const { width, height } = context.canvas;
  if (scratch.width !== width || scratch.height !== height) Object.assign(scratch, { width, height });
  const inner = scratch.getContext("2d");
  inner.globalCompositeOperation = "copy";
  inner.drawImage(context.canvas, 0, 0);
  inner.globalCompositeOperation = "destination-in";
  for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) inner.drawImage(context.canvas, x * thickness, y * thickness);
  context.globalCompositeOperation = "destination-out";
  context.drawImage(scratch, 0, 0);
  context.globalCompositeOperation = "source-over";
}
