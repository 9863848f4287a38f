// Several people at one review: who keeps which regions, which of them are shown, and how long the rest will take.

import { getJson } from "./api.js";

const KEPT = 10;
const HOURS = 24;
const UNTIL = { weekday: "short", hour: "2-digit", minute: "2-digit" };

export class People {
  // `on` has: say(text). The regions ask here which of them are shown, and which are free for this person.
  constructor(regions, person, on) {
    Object.assign(this, { regions, person, on, progress: null, state: "all", whose: "" });
    regions.isShown = (region) => this.shows(region);
    regions.isFree = (region) => this.isFree(region);
    regions.describeKept = ({ claimed, decision }) => (claimed && !decision ? `kept by ${claimed.person} until ${new Date(claimed.until).toLocaleString([], UNTIL)}` : "");
  }

  isFree({ decision, claimed }) { return !decision && (!claimed || claimed.person === this.person); }

  shows({ decision, person, claimed }) {
    const states = {
      all: true, open: !decision, done: Boolean(decision), free: this.isFree({ decision, claimed }), kept: Boolean(claimed) && !decision,
    };
    const who = decision ? person : claimed?.person;
    return (states[this.state] ?? decision === this.state) && (!this.whose || who === this.whose);
  }

  async load(volume) {
    const progress = await getJson(`api/progress/${encodeURIComponent(volume)}?drawn=${this.regions.drawn}`);
    if (this.regions.volume !== volume) return;
    this.progress = progress;
    this.show();
  }

  show() {
    const { seconds_each: each, open, people, sampled } = this.progress;
    document.getElementById("time-left").textContent = each && open ? `about ${describeTime(each * open)} left` : "";
    Object.assign(document.getElementById("sampled"), { hidden: !sampled, textContent: sampled ? describeSample(sampled) : "" });
    for (const [id, first] of [["whose", new Option("anybody", "")], ["keeper", null]]) {
      const select = document.getElementById(id);
      const { value } = select;
      const names = people.map((name) => new Option(name === this.person ? `${name} (you)` : name, name));
      select.replaceChildren(...(first ? [first] : []), ...names);
      select.value = people.includes(value) || (first && !value) ? value : first ? "" : this.person;
    }
    this.regions.reveal();
  }

  // The open region that follows what this person did last; from the beginning where all that follow are done.
  resume(all) {
    const { last } = this.progress ?? {};
    const at = last ? all.findIndex(({ place }) => ["z", "y", "x"].every((axis) => within(place, last, axis))) : -1;
    const ahead = [...all.slice(at + 1), ...all.slice(0, at + 1)];
    return ahead.find((region) => this.isFree(region)) ?? all[0];
  }

  // Keeps the next free regions for somebody, so that nobody else is sent to them.
  async keep(volume) {
    const name = document.getElementById("keeper").value || this.person;
    const places = this.regions.all.filter(({ decision, claimed }) => !decision && !claimed).slice(0, KEPT).map(({ place }) => place);
    if (!places.length) { this.on.say("Every open region is kept by somebody already."); return; }
    await this.claim(volume, places, name, HOURS);
    this.on.say(`${places.length} regions are kept for ${name === this.person ? "you" : name} until tomorrow.`);
  }

  // Lets go of the regions that are kept by this person, or that they have given to somebody.
  async release(volume) {
    const name = document.getElementById("keeper").value || this.person;
    const places = this.regions.all.filter(({ decision, claimed }) => !decision && claimed?.person === name).map(({ place }) => place);
    if (!places.length) { this.on.say("Nothing is kept."); return; }
    for (let at = 0; at < places.length; at += 100) await this.claim(volume, places.slice(at, at + 100), name, 0);
    this.on.say(`${places.length} regions are open to everybody again.`);
  }

  async claim(volume, places, name, hours) {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ id: crypto.randomUUID(), places, name, hours });
    const answer = await fetch("api/claims", { method: "POST", headers, body });
    if (!answer.ok) throw new Error((await answer.json()).detail);
    await this.regions.load(volume);
    await this.load(volume);
  }
}

export function within(place, last, axis) {
  const edge = { z: 1, y: place.height, x: place.width }[axis];
  return last[axis] >= place[axis] && last[axis] < place[axis] + edge;
}

function describeTime(seconds) {
  const minutes = Math.max(1, Math.round(seconds / 60));
  return minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

// What the number means, for somebody who has never heard of it.
function describeSample({ iou, interval, decided, chosen, regions }) {
  const drawn = chosen < regions ? `${chosen} of ${regions} regions, drawn at random. ` : `All ${regions} regions, in random order. `;
  if (iou === null) return `${drawn}Correct and decide them in this order, the tedious ones too: then you know how good the whole mask is.`;
  const sure = interval.too_few ? "an interval follows from ten on" : `95 % interval ${interval.low.toFixed(3)} to ${interval.high.toFixed(3)}`;
  return `${drawn}By the first ${decided} accepted or fixed, the mask has an IoU of ${iou.toFixed(3)} (${sure}): it and its correction ` +
    `agree on ${(100 * iou).toFixed(1)} % of all that either calls membrane.`;
}
