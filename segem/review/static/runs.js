// Changed pixels as the lengths of runs, row by row, the first one of unchanged pixels; as segem/kernels/runs.py has them.

export function encodeRuns(flips) {
  const runs = [];
  let value = 0;
  let length = 0;
  for (const flip of flips) {
    if (flip !== value) {
      runs.push(length);
      value = flip;
      length = 0;
    }
    length += 1;
  }
  if (value) runs.push(length);
  return runs;
}

export function decodeRuns(runs, size) {
  const flips = new Uint8Array(size);
  let at = 0;
  runs.forEach((length, index) => {
    if (index % 2) flips.fill(1, at, at + length);
    at += length;
  });
  return flips;
}

export function unpackBits(bytes, height, width) {
  const pixels = new Uint8Array(height * width);
  for (let i = 0; i < pixels.length; i += 1) pixels[i] = (bytes[i >> 3] >> (7 - (i & 7))) & 1;
  return pixels;
}
