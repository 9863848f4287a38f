// A line that follows the membrane between two clicks: the cheapest way over the pixels of a window, where a pixel costs the
// more the less it looks like membrane. All ways from the first click are found at once, so the line can be shown while
// the pointer moves (E. N. Mortensen and W. A. Barrett, 1995, doi:10.1145/218380.218442).

const WINDOW_PX = 512;
// What a pixel of certain membrane costs beside 255 for one that is certainly none: the line takes no long ways round.
const LEAST = 6;
const STEPS = [[-1, 0, 5], [1, 0, 5], [0, -1, 5], [0, 1, 5], [-1, -1, 7], [-1, 1, 7], [1, -1, 7], [1, 1, 7]];
const BUCKETS = 2048;

// The grey levels of a window of a section, and where it lies; `key` is that of the image or of the probability.
export async function readWindow(key, { shape: [, height, width] }, z, [y, x]) {
  const [top, left] = [y, x].map((at) => at - WINDOW_PX / 2);
  const answer = await fetch(`crops/${key}/${z}/${top}/${left}/${WINDOW_PX}`);
  if (!answer.ok) throw new Error("The section cannot be read here.");
  // As they are, without the colours of the screen.
  const image = await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none" });
  const context = new OffscreenCanvas(WINDOW_PX, WINDOW_PX).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, WINDOW_PX, WINDOW_PX);
  const levels = Uint8Array.from({ length: WINDOW_PX ** 2 }, (_, i) => data[4 * i]);
  // One past the last pixel that is within the section, in pixels of the window.
  return { levels, size: WINDOW_PX, top, left, low: [Math.max(0, -top), Math.max(0, -left)], high: [Math.min(WINDOW_PX, height - top), Math.min(WINDOW_PX, width - left)] };
}

// What each pixel costs, 0 to 255: by the probability, or where there is none by how light the image is.
export function costOf({ levels, size }, isProbability) {
  if (isProbability) return levels.map((level) => 255 - level);
  const smooth = new Uint8Array(levels.length);
  for (let i = size + 1; i < levels.length - size - 1; i += 1) {
    let sum = 0;
    for (const row of [i - size, i, i + size]) sum += levels[row - 1] + levels[row] + levels[row + 1];
    smooth[i] = sum / 9;
  }
  const counts = new Uint32Array(256);
  for (const level of smooth) counts[level] += 1;
  const quantile = (share) => {
    let [level, left] = [0, share * smooth.length];
    while (level < 255 && (left -= counts[level]) > 0) level += 1;
    return level;
  };
  const [dark, light] = [quantile(0.03), quantile(0.8)];
  return smooth.map((level) => Math.max(0, Math.min(255, ((level - dark) * 255) / Math.max(1, light - dark))));
}

// For each pixel of a window the one before it on the cheapest way from `start`, by buckets of costs that are whole numbers.
export function growTree(cost, { size, low, high }, start) {
  const before = new Int32Array(cost.length).fill(-1);
  const reached = new Int32Array(cost.length).fill(2 ** 31 - 1);
  const buckets = Array.from({ length: BUCKETS }, () => []);
  reached[start] = 0;
  before[start] = start;
  buckets[0].push(start);
  for (let total = 0, waiting = 1; waiting; total += 1) {
    const bucket = buckets[total % BUCKETS];
    while (bucket.length) {
      const at = bucket.pop();
      waiting -= 1;
      if (reached[at] !== total) continue;
      const [y, x] = [Math.floor(at / size), at % size];
      for (const [dy, dx, far] of STEPS) {
        const [ny, nx] = [y + dy, x + dx];
        if (ny < low[0] || nx < low[1] || ny >= high[0] || nx >= high[1]) continue;
        const next = ny * size + nx;
        const sum = total + far * (LEAST + cost[next]);
        if (sum >= reached[next]) continue;
        reached[next] = sum;
        before[next] = at;
        buckets[sum % BUCKETS].push(next);
        waiting += 1;
      }
    }
  }
  return before;
}

// The ways from one pixel of a section to those around it.
export class Ways {
  constructor(window, cost, [y, x]) {
    this.window = window;
    this.before = growTree(cost, window, (y - window.top) * window.size + x - window.left);
  }

  // The pixels from the first click to another; to the edge of the window where that lies beyond it.
  to([y, x]) {
    const { top, left, size, low, high } = this.window;
    const within = (at, from, axis) => Math.max(low[axis], Math.min(high[axis] - 1, at - from));
    let at = within(y, top, 0) * size + within(x, left, 1);
    const way = [];
    for (;;) {
      way.push([top + Math.floor(at / size), left + (at % size)]);
      if (this.before[at] === at) return way.reverse();
      at = this.before[at];
    }
  }
}

// The median width of the membranes of a mask, an odd number; `otherwise` where it has none.
export function medianWidth(pixels, width, otherwise) {
  const height = pixels.length / width;
  // The distance to what is no membrane, in thirds of a pixel, by two passes; what lies beyond the edges does not count.
  const depth = Uint16Array.from(pixels, (value) => (value ? 9999 : 0));
  const pass = (i, near) => { for (const [offset, far] of near) if (depth[i + offset] + far < depth[i]) depth[i] = depth[i + offset] + far; };
  const ahead = [[-width - 1, 4], [-width, 3], [-width + 1, 4], [-1, 3]];
  for (let y = 1; y < height - 1; y += 1) for (let x = 1; x < width - 1; x += 1) pass(y * width + x, ahead);
  const back = ahead.map(([offset, far]) => [-offset, far]);
  for (let y = height - 2; y > 0; y -= 1) for (let x = width - 2; x > 0; x -= 1) pass(y * width + x, back);
  const middles = [];
  for (let y = 2; y < height - 2; y += 1)
    for (let x = 2; x < width - 2; x += 1) {
      const i = y * width + x;
      if (depth[i] && depth[i] < 999 && [1, -1, width, -width].every((offset) => depth[i + offset] <= depth[i])) middles.push(depth[i]);
    }
  if (middles.length < 20) return otherwise;
  middles.sort((a, b) => a - b);
  return Math.max(1, 2 * Math.round(middles[middles.length >> 1] / 3) - 1);
}
