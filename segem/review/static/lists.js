// The lists beside the stage: regions in their order, questions one by one, and what was done.

import { getJson } from "./api.js";

// As many as a person scrolls through; more of them make the page slow.
const SHOWN = 200;
export const WORDS = { accept: "accepted", fix: "fixed", reject: "rejected", unsure: "unsure" };

function describeReview(all) { return `${all.filter(({ decision }) => decision).length} of ${all.length} decided`; }

export class Regions {
  // `on` has: opened(region); `words` and `describe` say what was decided, and how far one has come.
  constructor(on, { words, describe } = { words: WORDS, describe: describeReview }) {
    Object.assign(this, { on, words, describe, all: [], current: null, drawn: false, isShown: () => true, isFree: ({ decision }) => !decision, describeKept: () => "" });
    this.list = document.getElementById("region-list");
  }

  async load(volume) {
    const same = this.volume === volume;
    this.volume = volume;
    this.all = await getJson(`api/queue/${encodeURIComponent(volume)}?drawn=${this.drawn}`);
    this.current = same ? this.current : null;
    this.show();
  }

  get visible() {
    return this.all.filter(this.isShown);
  }

  isCurrent({ place }) {
    return this.current && ["z", "y", "x"].every((axis) => place[axis] === this.current.place[axis]);
  }

  show() {
    document.getElementById("progress").textContent = this.describe(this.all);
    const { visible } = this;
    const from = Math.max(0, visible.findIndex((region) => this.isCurrent(region)) - SHOWN / 2);
    this.list.replaceChildren(...visible.slice(from, from + SHOWN).map((region) => {
      const button = document.createElement("button");
      button.type = "button";
      if (this.isCurrent(region)) button.setAttribute("aria-current", "true");
      const { z, y, x } = region.place;
      const where = Object.assign(document.createElement("span"), { className: "where", textContent: `Section ${z} at x ${x}, y ${y}` });
      const why = Object.assign(document.createElement("span"), { className: "why", textContent: region.reason });
      button.append(where);
      if (region.decision) {
        const by = `${this.words[region.decision]} by ${region.person}${region.note ? `: ${region.note}` : ""}`;
        button.append(Object.assign(document.createElement("span"), { className: `state ${region.decision}`, textContent: by }));
      }
      const kept = this.describeKept(region);
      if (kept) button.append(Object.assign(document.createElement("span"), { className: "state unsure", textContent: kept }));
      button.append(why);
      button.addEventListener("click", () => this.open(region));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }));
    this.reveal();
  }

  // Scrolls to the current region; once more when what stands above the list has grown.
  reveal() { this.list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" }); }

  choose(region) {
    this.current = region;
    this.show();
  }

  open(region) {
    this.choose(region);
    return this.on.opened(region);
  }

  // Goes `step` regions on in the list; or to the next that is free, also one that was passed over.
  go(step, openOnly = false) {
    const { visible } = this;
    const at = visible.findIndex((region) => this.isCurrent(region));
    const before = visible.slice(0, Math.max(0, at));
    const after = visible.slice(at + 1);
    // Whoever began in the middle has open ones before.
    const ahead = step < 0 ? before.reverse() : openOnly ? [...after, ...before] : after;
    const next = ahead.find((region) => !openOnly || this.isFree(region));
    if (!next) return false;
    this.open(next);
    // In the middle, so that what comes then is seen too.
    this.list.querySelector("[aria-current]")?.scrollIntoView({ block: "center" });
    return true;
  }

  // The regions to come, to be fetched ahead.
  ahead(count) {
    const at = this.visible.findIndex((region) => this.isCurrent(region));
    return this.visible.slice(at + 1, at + 1 + count);
  }

  decided(place, decision, note, person) {
    for (const region of this.all)
      if (["z", "y", "x"].every((axis) => region.place[axis] === place[axis])) Object.assign(region, { decision, note, person });
    this.show();
  }
}

export class Questions {
  // `on` has: asked(question) and finished().
  constructor(on) {
    Object.assign(this, { on, all: [], at: -1, turn: 0 });
    this.progress = document.getElementById("question-progress");
  }

  get current() { return this.all[this.at]; }

  async load(volume, z) {
    const key = `${volume} ${z}`;
    if (this.key === key && this.current) { this.on.asked(this.current); return; }
    this.key = key;
    const turn = (this.turn += 1);
    this.progress.textContent = "Looking for questions …";
    [this.all, this.at] = [[], -1];
    const all = await getJson(`api/questions/${encodeURIComponent(volume)}/${z}`);
    if (this.turn !== turn) return;
    this.all = all;
    this.go(1);
  }

  // Asks once more what was answered.
  async again({ volume, z, key }) {
    await this.load(volume, z);
    const at = this.all.findIndex((one) => one.key === key);
    if (at < 0) return;
    this.all[at].answer = null;
    this.at = at - 1;
    this.go(1);
  }

  // Goes to the next question that is open, or back to the one before.
  go(step) {
    let at = this.at + step;
    if (step > 0) while (at < this.all.length && this.all[at].answer) at += 1;
    if (at < 0) return;
    this.at = at;
    const answered = this.all.filter(({ answer }) => answer).length;
    const none = this.all.length
      ? `All ${this.all.length} questions of this section are answered; the section before and after may have more.`
      : "There are no questions about this section.";
    this.progress.textContent = this.current ? `Question ${at + 1} of ${this.all.length}, ${answered} answered` : none;
    if (this.current) this.on.asked(this.current);
    else this.on.finished();
  }
}

const TOOLS = {
  brush: "painted", eraser: "erased", polygon: "painted a polygon", fill: "filled or emptied an area", line: "drew a line", undo: "undid a stroke",
  redo: "redid a stroke", copy: "copied a region", interpolate: "took what lies between", clear: "cleared a region", import: "imported an edited mask",
  verdict: "decided between two readings",
};

function describeEntry({ kind, detail }, words) {
  if (kind === "decision") return words[detail.decision];
  if (kind === "answer") return `answered ${detail.answer === "unknown" ? "don’t know" : detail.answer}`;
  return kind === "revert" ? `took back ${detail.of}` : (TOOLS[detail.tool] ?? `corrected by ${detail.tool}`);
}

// `words` say what was decided; `open` and `revert` are called for an entry that is chosen, or taken back.
export async function showHistory(volume, words, open, revert) {
  const made = await getJson(`api/history/${encodeURIComponent(volume)}`);
  // The newest first: what was taken back itself takes nothing back.
  const gone = new Set();
  for (const { kind, number, detail } of made) if (kind === "revert" && !gone.has(number)) gone.add(detail.of);
  document.getElementById("history-list").replaceChildren(...made.map((entry) => {
    const item = document.createElement("li");
    const { place } = entry;
    const what = `${entry.author} ${describeEntry(entry, words)}`;
    const when = new Date(entry.time).toLocaleString();
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(
      Object.assign(document.createElement("span"), { className: "where", textContent: what }),
      Object.assign(document.createElement("span"), { className: "why", textContent: `Entry ${entry.number}, section ${place.z}, ${when}` }),
    );
    button.addEventListener("click", () => open(place));
    item.append(button);
    if (gone.has(entry.number)) button.append(Object.assign(document.createElement("span"), { className: "state unsure", textContent: "taken back" }));
    else if (entry.changes) {
      const back = Object.assign(document.createElement("button"), { type: "button", className: "revert", textContent: "Take back" });
      back.setAttribute("aria-label", `Take back entry ${entry.number}`);
      back.addEventListener("click", () => revert(entry));
      item.append(back);
    }
    return item;
  }));
  if (!made.length) document.getElementById("history-list").textContent = "Nothing was done yet.";
}
