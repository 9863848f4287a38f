// What is asked of the server, and what is sent to it: one thing after the other, again until it has arrived.

import { decodeRuns, encodeRuns, unpackBits } from "./runs.js";

export const PAGE = crypto.randomUUID();
// As others see it: a page that is loaded again is no second tab.
const isAgain = performance.getEntriesByType("navigation")[0]?.type === "reload";
export const TAB = (isAgain && sessionStorage.getItem("segem-tab")) || PAGE;
sessionStorage.setItem("segem-tab", TAB);
const RETRY_MS = 1500;

export async function getJson(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await explain(answer)) || answer.statusText);
  return answer.json();
}

export async function getBits(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await explain(answer));
  const [height, width] = answer.headers.get("X-Shape").split(",").map(Number);
  const pixels = unpackBits(new Uint8Array(await answer.arrayBuffer()), height, width);
  return { pixels, height, width, entry: Number(answer.headers.get("X-Entry")) };
}

async function explain(answer) {
  try {
    const { detail } = await answer.clone().json();
    return typeof detail === "string" ? detail : JSON.stringify(detail);
  } catch {
    return answer.text();
  }
}

// Seconds at work since they were last taken: gaps of more than ten are breaks.
export class Activity {
  constructor() {
    [this.seconds, this.last] = [0, performance.now()];
    for (const event of ["pointermove", "pointerdown", "keydown", "wheel"])
      addEventListener(event, () => this.note(), { passive: true, capture: true });
  }

  note() {
    const gap = (performance.now() - this.last) / 1000;
    if (gap < 10) this.seconds += gap;
    this.last = performance.now();
  }

  take() {
    const { seconds } = this;
    this.seconds = 0;
    return Math.round(seconds * 100) / 100;
  }
}

// Sends what was done, in its order. What was not acknowledged is kept by the browser, also when the page is closed.
export class Saver {
  // `on` has: changed(), others(where, changes), saved(item, entry), clashed(item, changes), merged(item, flips) and
  // refused(item, why).
  constructor(run, person, on) {
    this.prefix = `segem-unsaved ${run} ${person} `;
    this.key = this.prefix + PAGE;
    Object.assign(this, { on, seen: new Map(), busy: false, offline: false, waiting: [], idlers: [] });
    // Held as long as the page lives, which tells others that it sends by itself what it has kept.
    navigator.locks.request(this.key, () => new Promise(() => {}));
  }

  // Takes up what pages that were closed have left unsent.
  async takeUp() {
    for (const key of Object.keys(localStorage).filter((one) => one.startsWith(this.prefix) && one !== this.key))
      await navigator.locks.request(key, { ifAvailable: true }, (lock) => {
        if (!lock) return;
        this.waiting.push(...JSON.parse(localStorage.getItem(key) || "[]"));
        this.keep();
        localStorage.removeItem(key);
      });
    this.run();
    await this.idle();
  }

  sectionKey({ volume, z }) { return `${volume}/${z}`; }
  seenOf(place) { return this.seen.get(this.sectionKey(place)) ?? 0; }
  sawUpTo(place, number) { this.seen.set(this.sectionKey(place), Math.max(number, this.seenOf(place))); }

  send(path, where, body) {
    const item = { path, where: { volume: where.volume, z: where.z }, body: { id: crypto.randomUUID(), ...body } };
    this.waiting.push(item);
    this.keep();
    this.run();
    return item;
  }

  keep() {
    const plain = this.waiting.map(({ path, where, body, seen }) => ({ path, where, body, seen: seen ?? this.seenOf(where) }));
    if (plain.length) localStorage.setItem(this.key, JSON.stringify(plain));
    else localStorage.removeItem(this.key);
    this.on.changed();
  }

  idle() {
    if (!this.waiting.length) return Promise.resolve();
    return new Promise((resolve) => this.idlers.push(resolve));
  }

  async run() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.length) {
      const item = this.waiting[0];
      try {
        if (await this.post(item)) this.waiting.splice(this.waiting.indexOf(item), 1);
        this.offline = false;
      } catch {
        this.offline = true;
        this.on.changed();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
      this.keep();
    }
    this.busy = false;
    for (const resolve of this.idlers.splice(0)) resolve();
    this.on.changed();
  }

  // Returns whether the server has it, or will never take it; throws where it cannot be reached.
  async post(item) {
    const seen = item.seen ?? this.seenOf(item.where);
    const headers = { "Content-Type": "application/json", "If-Match": `"${seen}"` };
    const answer = await fetch(item.path, { method: "POST", headers, body: JSON.stringify(item.body) });
    if (answer.status >= 500 || answer.status === 401) throw new Error(await explain(answer));
    if (!answer.ok && answer.status !== 412) {
      this.on.refused(item, await explain(answer));
      return true;
    }
    const { entry, changes } = await answer.json();
    this.on.others(item.where, changes);
    if (answer.status === 201) {
      this.sawUpTo(item.where, entry.number);
      this.on.saved(item, entry);
      return true;
    }
    this.sawUpTo(item.where, changes.at(-1).number);
    delete item.seen;
    // A decision about what nobody has looked at is not sent again by itself.
    if (item.body.decision) {
      this.on.refused(item, "somebody else has changed this region meanwhile; look again");
      return true;
    }
    // Both have changed a pixel to the same value, since it has two: what others did need not be done again.
    if (item.body.runs) {
      const { place } = item.body;
      const mine = decodeRuns(item.body.runs, place.height * place.width);
      const theirs = flipsWithin(changes, place);
      item.body.runs = encodeRuns(mine.map((flip, i) => flip & (1 - theirs[i])));
      this.on.merged(item, mine.map((flip, i) => flip & theirs[i]));
    }
    this.on.clashed(item, changes);
    return false;
  }
}

function flipsWithin(changes, place) {
  const flips = new Uint8Array(place.height * place.width);
  for (const { place: own, runs } of changes) {
    const made = decodeRuns(runs, own.height * own.width);
    for (let y = Math.max(own.y, place.y); y < Math.min(own.y + own.height, place.y + place.height); y += 1)
      for (let x = Math.max(own.x, place.x); x < Math.min(own.x + own.width, place.x + place.width); x += 1)
        flips[(y - place.y) * place.width + x - place.x] ^= made[(y - own.y) * own.width + x - own.x];
  }
  return flips;
}
