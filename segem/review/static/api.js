// What is asked of the server, and what is sent to it: one thing after the other, again until it has arrived.

import { decodeRuns, encodeRuns, flipsWithin, unpackBits } from "./runs.js";

export const PAGE = crypto.randomUUID();
// As others see it: a page that is loaded again is no second tab.
const isAgain = performance.getEntriesByType("navigation")[0]?.type === "reload";
export const TAB = (isAgain && sessionStorage.getItem("segem-tab")) || PAGE;
sessionStorage.setItem("segem-tab", TAB);
const RETRY_MS = 1500;
const LONGEST_REASON = 300;

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
    // A page of a proxy says nothing to people.
    const isPage = answer.headers.get("Content-Type")?.includes("html");
    return (!isPage && (await answer.text())) || `${answer.status} ${answer.statusText}`;
  }
}

// What the server cannot take now, and may take later.
class Refusal extends Error {}

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
  // `on` has: changed(), others(where, changes, left), saved(item, entry), clashed(item, changes), merged(item, flips),
  // held(why), where the server cannot take anything now, and refused(item, why); `left` is what is new of the changes to
  // whoever has made what waits. `trouble` is why nothing is saved now: null for nothing, empty for no connection.
  constructor(run, person, on) {
    this.prefix = `segem-unsaved ${run} ${person} `;
    this.key = this.prefix + PAGE;
    Object.assign(this, { on, seen: new Map(), busy: false, trouble: null, isKept: true, waiting: [], idlers: [] });
    // Held as long as the page lives, which tells others that it sends by itself what it has kept.
    navigator.locks.request(this.key, () => new Promise(() => {}));
  }

  // Takes up what pages that were closed have left unsent.
  async takeUp() {
    for (const key of Object.keys(localStorage).filter((one) => one.startsWith(this.prefix) && one !== this.key))
      await navigator.locks.request(key, { ifAvailable: true }, (lock) => {
        if (!lock) return;
        this.waiting.push(...JSON.parse(localStorage.getItem(key) || "[]").map((item) => ({ from: key, ...item })));
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
    const plain = this.waiting.map(({ path, where, body, seen = this.seenOf(where), from = this.key }) => ({ path, where, body, seen, from }));
    // A browser that has no room left still sends what is made.
    try {
      if (plain.length) localStorage.setItem(this.key, JSON.stringify(plain));
      else localStorage.removeItem(this.key);
      this.isKept = true;
    } catch {
      this.isKept = false;
    }
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
        if (await this.post(item)) this.drop(item);
        this.trouble = null;
      } catch (error) {
        // A request that never arrived has no answer, and its error says nothing to people.
        const trouble = error instanceof Refusal ? error.message : "";
        if (trouble && trouble !== this.trouble) this.on.held(trouble);
        this.trouble = trouble;
        this.on.changed();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
      this.keep();
    }
    this.busy = false;
    for (const resolve of this.idlers.splice(0)) resolve();
    this.on.changed();
  }

  drop(item) { this.waiting = this.waiting.filter((one) => one !== item); }

  // Returns whether the server has it, or will never take it; throws where it cannot be reached.
  async post(item) {
    const seen = item.seen ?? this.seenOf(item.where);
    const headers = { "Content-Type": "application/json", "If-Match": `"${seen}"` };
    const answer = await fetch(item.path, { method: "POST", headers, body: JSON.stringify(item.body) });
    if (answer.status >= 500 || answer.status === 401) throw new Refusal((await explain(answer)).slice(0, LONGEST_REASON));
    if (!answer.ok && answer.status !== 412) {
      this.on.refused(item, await explain(answer));
      return true;
    }
    const { entry, changes } = await answer.json();
    const isSaved = answer.status === 201;
    // All that the same page has made of this section and still waits was made before its person knew of these changes.
    const met = this.waiting.filter((one) => one.from === item.from && this.sectionKey(one.where) === this.sectionKey(item.where))
      .filter((one) => one !== item || !isSaved);
    const upTo = Math.max(entry?.number ?? 0, changes.at(-1)?.number ?? 0);
    this.sawUpTo(item.where, upTo);
    for (const one of met) if (one.seen !== undefined) one.seen = upTo;
    this.on.others(item.where, changes, this.merge(met, changes));
    if (isSaved) this.on.saved(item, entry);
    for (const one of met)
      if (one === item || changes.some(({ place }) => overlap(place, one.body.place))) this.clash(one, changes);
    return isSaved || !this.waiting.includes(item);
  }

  // Both have changed a pixel to the same value, since it has two: what others did need not be done again. Once: what was
  // changed to and fro ends as it was left. Returns what is left of the changes to what comes after these items.
  merge(items, changes) {
    const theirs = changes.map(({ place, runs }) => ({ place, flips: decodeRuns(runs, place.height * place.width) }));
    for (const item of changes.length ? items.filter(({ body }) => body.runs) : []) {
      const { place } = item.body;
      const mine = decodeRuns(item.body.runs, place.height * place.width);
      const both = flipsWithin(theirs, place).map((flip, i) => flip & mine[i]);
      item.body.runs = encodeRuns(mine.map((flip, i) => flip & (1 - both[i])));
      theirs.push({ place, flips: both });
      this.on.merged(item, both);
    }
    return theirs;
  }

  // A decision about what nobody has looked at is not sent by itself.
  clash(item, changes) {
    if (!item.body.decision) { this.on.clashed(item, changes); return; }
    this.drop(item);
    this.on.refused(item, "somebody else has changed this region meanwhile; look again");
  }
}

function overlap(one, other) {
  return Boolean(other) && one.y < other.y + other.height && other.y < one.y + one.height &&
    one.x < other.x + other.width && other.x < one.x + one.width;
}
