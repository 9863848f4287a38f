// Regions that two people have read differently: a third one sees both versions side by side and takes one of them.

import { getBits, getJson } from "./api.js";

const WORDS = { accept: "accepted", fix: "fixed", reject: "rejected", unsure: "unsure" };
const $ = (id) => document.getElementById(id);

export class Compare {
  // `on` has: opened(place), drawn(canvas, square, pixels), say(text), and seconds(), at work since the last entry.
  constructor(on) { Object.assign(this, { on, all: [], at: 0 }); }

  get current() { return this.all[this.at]; }

  async load(volume) {
    this.volume = volume;
    this.all = await getJson(`api/disagreements/${encodeURIComponent(volume)}`);
    this.at = 0;
    $("tab-compare").hidden = !this.all.length;
  }

  async show() {
    const { current, volume } = this;
    $("compare-progress").textContent = current ? `${this.at + 1} of ${this.all.length} regions that two people have read differently` : "Nothing is left to compare.";
    for (const button of document.querySelectorAll("#compare button")) button.disabled = !current;
    if (!current) return;
    const { place } = current;
    await this.on.opened(place);
    const size = Math.max(place.height, place.width);
    for (const [index, which] of ["first", "second"].entries()) {
      const { pixels } = await getBits(`api/readings/${which}/${encodeURIComponent(volume)}/${place.z}/${place.y}/${place.x}`);
      if (current !== this.current) return;
      const square = new Uint8Array(size * size);
      for (let y = 0; y < place.height; y += 1) square.set(pixels.subarray(y * place.width, (y + 1) * place.width), y * size);
      this.on.drawn($(`compare-${which}`), { z: place.z, y: place.y, x: place.x, height: size }, square);
      $(`caption-${which}`).textContent = `The ${which} reading: ${WORDS[current.decisions[index]]}`;
    }
  }

  go(step) {
    this.at = Math.max(0, Math.min(this.all.length - 1, this.at + step));
    return this.show();
  }

  async take(which) {
    const { current } = this;
    if (!current) return;
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ id: crypto.randomUUID(), place: current.place, take: which, active_seconds: this.on.seconds() });
    const answer = await fetch("api/verdicts", { method: "POST", headers, body });
    if (!answer.ok) { this.on.say(`Not saved: ${(await answer.json()).detail}`); return; }
    this.all.splice(this.all.indexOf(current), 1);
    this.at = Math.min(this.at, Math.max(0, this.all.length - 1));
    await this.show();
  }
}
