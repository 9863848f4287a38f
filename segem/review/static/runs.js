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

// The pixels of a rectangle that changes have turned: what two of them turn is as it was.
export function flipsWithin(changes, place) {
  const flips = new Uint8Array(place.height * place.width);
  for (const { place: own, flips: made } of changes) {
    for (let y = Math.max(own.y, place.y); y < Math.min(own.y + own.height, place.y + place.height); y += 1)
      for (let x = Math.max(own.x, place.x); x < Math.min(own.x + own.width, place.x + place.width); x += 1)
        flips[(y - place.y) * place.width + x - place.x] ^= made[(y - own.y) * own.width + x - own.x];
  }
  return flips;
}
