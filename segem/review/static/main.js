// Puts the page together: what is shown, what keys and buttons do, and what goes to and fro with the server.

import { Activity, Saver, TAB, getBits, getJson } from "./api.js";
import { Compare } from "./compare.js";
import { endIntroduction, introduce } from "./intro.js";
import { listen, showKeys } from "./keys.js";
import { LABELLING, LABEL_KEYS, renamePage, renameText } from "./labelling.js";
import { Questions, Regions, showHistory } from "./lists.js";
import { Mask } from "./mask.js";
import { Painter } from "./painting.js";
import { People, within } from "./people.js";
import { Strip } from "./strip.js";
import { openThreeD } from "./threed.js";
import { MASK_COLOUR, Stage } from "./viewer.js";

const NEWS_MS = 3000;
const CROP_PX = 140;
const HINT_MS = 4000;
const CLICK_MS = 300;
const PREFETCHED = 3;
const tabs = ["regions", "questions", "history", "compare"];
const $ = (id) => document.getElementById(id);

const info = await getJson("api/review");
const DRAWN = `segem-drawn ${info.run} ${info.person}`;
const LAST = `segem-volume ${info.run} ${info.person}`;
const activity = new Activity();
let volume = null;
let z = 0;
let probability = false;
let mode = "regions";
let opening = 0;
let opened = Promise.resolve();
let hint = 0;
let hiding = 0;

const saver = new Saver(info.run, info.person, {
  changed: showSaved,
  held: (why) => say(`Not saved yet: ${why}`),
  others(where, changes, left) {
    if (!isHere(where)) return;
    stage.mask.note(changes);
    painter.stroke?.concede(left);
  },
  saved(item, entry) {
    if (isHere(item.where)) stage.mask.note([entry], Boolean(item.body.runs));
    if (item.body.answer) describeAnswer(item.body, entry.runs.length > 1);
    if (entry.kind !== "decision") return;
    regions.decided(entry.place, item.body.decision, item.body.note, entry.author);
    people.load(volume.name).catch(() => {});
  },
  merged({ body }, flips) {
    painter.concede(body.place, flips);
    if (isHere(body.place)) stage.mask.flipAll({ place: body.place, flips });
  },
  clashed: (item, changes) => showClash(item, changes),
  async refused({ body }, why) {
    say(`Not saved: ${why}`);
    if (!body.decision) return;
    await regions.load(volume.name);
    await people.load(volume.name);
    const again = regions.all.find(({ place }) => ["volume", "z", "y", "x"].every((key) => place[key] === body.place[key]));
    if (again) regions.open(again);
  },
});
const stage = new Stage(info.tile_px, { moved: noteAddress });
const painter = new Painter(stage, saver, activity, {
  // Whoever paints knows by now, and the introduction lies above the image.
  changed: () => { showTools(); if (painter.done.length) endIntroduction(); },
  say, withdraw, within: () => marked(),
  keyOf: (of) => ({ key: of.probability ?? of.raw, isProbability: Boolean(of.probability) }),
});
const regions = new Regions({ opened: (region) => openRegion(region) }, info.labelling ? LABELLING : undefined);
regions.drawn = (localStorage.getItem(DRAWN) ?? String(info.drawn)) === "true" && !info.labelling;
const strip = new Strip(drawCrop);
const questions = new Questions({ asked: (question) => ask(question), finished: () => { stage.ridge = null; stage.redraw(); } });

const people = new People(regions, info.person, { say });
const compare = new Compare({
  say, seconds: () => activity.take(), drawn: (canvas, square, pixels) => drawCrop(canvas, square, pixels),
  opened: async (place) => { await openSection(volume, place.z); stage.region = place; stage.fit(place); },
});

function isHere({ volume: name, z: section }) { return stage.mask && name === volume.name && section === z; }

function say(text) {
  clearTimeout(hint);
  Object.assign($("message"), { textContent: text, hidden: !text });
  if (text) hint = setTimeout(() => say(""), HINT_MS);
}

// Takes back what was said, if it is still to be read.
function withdraw(text) { if ($("message").textContent === text) say(""); }

function showSaved() {
  const count = saver.waiting.length;
  const { trouble } = saver;
  const state = trouble !== null ? "offline" : count ? "saving" : "saved";
  Object.assign($("saved"), { className: state, title: trouble ?? "" });
  const [what, when] = trouble ? ["The server cannot save", "it can"] : ["No connection", "it is back"];
  const kept = `${what}: ${count} ${saver.isKept ? "kept here" : "in this page alone, which is to stay open"}, sent when ${when}`;
  $("saved").textContent = { offline: kept, saving: `Saving ${count}`, saved: "Saved" }[state];
}

function showTools() {
  for (const tool of ["brush", "eraser", "polygon", "line", "fill", "move"]) press(tool, painter.tool === tool);
  press("outline", stage.outlined);
  press("probability", probability);
  press("strip", strip.shown);
  press("drawn", regions.drawn);
  $("size").value = painter.size;
  $("size-px").textContent = `${painter.size} px`;
  document.querySelector("[data-action=undo]").disabled = !painter.done.length;
  document.querySelector("[data-action=redo]").disabled = !painter.undone.length;
  document.querySelector("[data-action=probability]").disabled = !volume?.probability;
  for (const [action, of] of [["copy-below", "below"], ["copy-above", "above"], ["interpolate", "between"]])
    document.querySelector(`[data-action=${action}]`).disabled = Boolean(volume && describeMissing(of));
  stage.marksCanvas.classList.toggle("moving", painter.tool === "move");
}

// Why a section has no such neighbour; empty where it has.
function describeMissing(of) {
  if (of !== "above" && z === 0) return "There is no section before this one.";
  return of !== "below" && z === volume.shape[0] - 1 ? "There is no section after this one." : "";
}

function press(action, pressed) {
  document.querySelector(`[data-action=${action}]`).setAttribute("aria-pressed", pressed);
}

function openMask() {
  const here = { volume: volume.name, z };
  const mask = new Mask(volume, z, info.tile_px, async (entry) => {
    for (;;) {
      await saver.idle();
      if (mask !== stage.mask || saver.seenOf(here) >= entry) return;
      await hear();
    }
  }, () => stage.redraw());
  return mask;
}

// Opens a section of a volume; the view stays where it is.
function openSection(next, section, look) { return (opened = showSection(next, section, look)); }

async function loadLists(name) {
  await Promise.all([regions.load(name), people.load(name)]);
  localStorage.setItem(LAST, name);
  compare.load(name).catch((error) => say(error.message));
}

async function showSection(next, section, look) {
  const turn = (opening += 1);
  const another = volume !== next;
  if (regions.volume !== next.name) {
    await loadLists(next.name);
    if (turn !== opening) return;
  }
  const bounded = Math.max(0, Math.min(next.shape[0] - 1, section));
  // Also where the section stays: a number that the volume does not have is not left in the field.
  $("z").value = bounded;
  if (!another && bounded === z && stage.mask) return;
  painter.cancel();
  [volume, z] = [next, bounded];
  stage.mask = openMask();
  stage.ridge = null;
  $("z").max = volume.shape[0] - 1;
  $("depth").textContent = `(0 to ${volume.shape[0] - 1})`;
  $("volume").value = volume.name;
  await Promise.all([stage.show(volume, z, shownKey(), look), hear()]);
  if (turn !== opening) return;
  showTools();
  if (mode === "questions") await questions.load(volume.name, z);
  noteAddress();
}

function shownKey() { return probability && volume.probability ? volume.probability : volume.raw; }

async function openRegion(region) {
  const { place } = region;
  await openSection(volume, place.z);
  // Somebody who is quick is elsewhere by now.
  if (mode !== "regions" || !regions.isCurrent(region)) return;
  stage.region = place;
  // First, as it takes room from the stage.
  showStrip();
  stage.fit(place);
  prefetch();
}

function showStrip() { return strip.show(mode === "regions" ? regions.current?.place : null, volume).catch((error) => say(error.message)); }

function prefetch() {
  for (const { place } of regions.ahead(PREFETCHED)) {
    const [row, column] = [place.y, place.x].map((edge) => Math.floor(edge / info.tile_px));
    new Image().src = `tiles/${volume.raw}/0/${place.z}/${row}/${column}`;
  }
}

// What others have done in this section, and who they are.
async function hear() {
  const [name, section, mask] = [volume.name, z, stage.mask];
  const seen = saver.seenOf({ volume: name, z: section });
  const { y, x } = stage.isReady ? stage.centre() : { y: 0, x: 0 };
  const at = new URLSearchParams({ page: TAB, seen, y: Math.round(y), x: Math.round(x) });
  const news = await getJson(`api/changes/${encodeURIComponent(name)}/${section}?${at}`);
  if (mask !== stage.mask) return;
  // What this page has sent itself is on the mask already, whether or not it was acknowledged by now.
  if (saver.waiting.length) return;
  painter.stroke?.concede(mask.note(news.changes.filter(({ number }) => number > saver.seenOf({ volume: name, z: section }))));
  saver.sawUpTo({ volume: name, z: section }, news.seen);
  const people = news.others.map(({ person }) => (person === info.person ? "you, in another tab" : person));
  $("others").textContent = people.length ? `Also here: ${[...new Set(people)].join(", ")}` : "";
}

function decide(decision) {
  const region = regions.current;
  // Elsewhere than among regions, none is in sight.
  if (!region || mode !== "regions") { say(region ? "Open the regions first." : "Choose a region first."); return; }
  const { place } = region;
  if (place.z !== z) {
    openRegion(region);
    say(`The region is in section ${place.z}: here it is. Decide when you have looked.`);
    return;
  }
  const body = { place, decision, note: $("note").value.trim(), active_seconds: activity.take() };
  Object.assign(region, { decision, note: body.note, person: info.person });
  $("note").value = "";
  // Not before it is known what others have done in the section: a decision is about what was seen.
  opened.then(() => saver.send("api/decisions", place, body));
  painter.note({ undo: () => decideAgain(place) });
  endIntroduction();
  const done = regions.words[decision].replace(/^./, (letter) => letter.toUpperCase());
  if (regions.go(1, true)) { say(`${done}. Here is the next; the list or Shift X goes back.`); return; }
  regions.show();
  say(`${done}. That was the last open one of the list.`);
}

// The region without and with what was just painted there while somebody else was at work on it.
async function showClash(item, changes) {
  const { place, runs } = item.body;
  const people = [...new Set(changes.map(({ author }) => (author === info.person ? "You, in another tab," : author)))].join(", ");
  if (!runs || !isHere(place)) { say(`${people} changed this region meanwhile; yours was added.`); return; }
  const size = Math.min(192, Math.max(place.height, place.width, 64));
  const middle = [place.y + place.height / 2, place.x + place.width / 2].map((at) => Math.round(at - size / 2));
  const around = { y: middle[0], x: middle[1], height: size, width: size };
  const both = stage.mask.read(around);
  const own = decodeWithin(item.body, around);
  $("clash-title").textContent = `${people} changed this region while you painted`;
  drawCrop($("clash-theirs"), around, both.map((value, i) => value ^ own[i]));
  drawCrop($("clash-both"), around, both);
  const dialog = $("clash");
  if (dialog.open) return;
  dialog.showModal();
  dialog.onclose = () => { if (dialog.returnValue === "theirs") painter.takeBack(place); };
}

function decodeWithin({ place, runs }, around) {
  const flips = new Uint8Array(around.height * around.width);
  let at = 0;
  runs.forEach((length, index) => {
    for (let i = at; index % 2 && i < at + length; i += 1) {
      const [y, x] = [place.y + Math.floor(i / place.width) - around.y, place.x + (i % place.width) - around.x];
      if (y >= 0 && x >= 0 && y < around.height && x < around.width) flips[y * around.width + x] = 1;
    }
    at += length;
  });
  return flips;
}

// Draws a part of a section, enlarged, with a mask above it.
async function drawCrop(canvas, { z: section = z, y, x, height: size }, pixels = null) {
  const context = canvas.getContext("2d");
  const image = new Image();
  image.src = `crops/${volume.raw}/${section}/${y}/${x}/${size}`;
  const wanted = (canvas.dataset.crop = image.src);
  await image.decode().catch(() => {});
  if (canvas.dataset.crop !== wanted) return;
  context.imageSmoothingEnabled = false;
  context.globalAlpha = 1;
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (image.naturalWidth) context.drawImage(image, 0, 0, canvas.width, canvas.height);
  if (!pixels) return;
  const mask = new ImageData(size, size);
  pixels.forEach((value, i) => { if (value) mask.data.set([...MASK_COLOUR, 128], 4 * i); });
  const small = new OffscreenCanvas(size, size);
  small.getContext("2d").putImageData(mask, 0, 0);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

// Shows a question: the line on the stage, and beside it the same place in the sections before and after.
async function ask(question) {
  await openSection(volume, question.z);
  stage.ridge = question.ridge;
  stage.region = null;
  const [y, x] = [question.y, question.x].map((at) => at - CROP_PX / 2);
  stage.fit({ y, x, height: CROP_PX, width: CROP_PX });
  for (const [name, offset] of [["below", -1], ["above", 1]]) {
    const section = question.z + offset;
    const there = section >= 0 && section < volume.shape[0];
    $(`caption-${name}`).textContent = there ? `The same place in section ${section}` : `No section ${offset < 0 ? "before" : "after"}`;
    $(`crop-${name}`).classList.toggle("none", !there);
    if (there) drawCrop($(`crop-${name}`), { z: section, y, x, height: CROP_PX });
  }
}

// What an answer has done, by the pixels that came back; nothing of one that was taken back meanwhile.
function describeAnswer({ question: key, answer: word }, changed) {
  if (!questions.all.find((one) => one.key === key)?.answer) return;
  const said = { yes: "Yes", no: "No", unknown: "Don’t know" }[word];
  const done = word === "yes" ? "drawn" : "taken away";
  say(changed && word !== "unknown" ? `${said}: ${done}. Undo takes it back.` : `${said}: the mask stays as it is.`);
}

// Takes the last answer back, and asks again: whoever does not know leaves the mask as it was.
function askAgain(question) {
  if (question.volume !== volume.name) { say(`The last answer is about ${question.volume}: go there to undo it.`); return false; }
  question.answer = null;
  const body = { volume: question.volume, z: question.z, question: question.key, answer: "unknown", active_seconds: activity.take() };
  saver.send("api/answers", question, body);
  if (mode !== "questions") setMode("questions");
  questions.again(question).catch((error) => say(error.message));
  say("Answer taken back. Here is the question again.");
  return true;
}

// Comes back to a region that was decided: a decision is replaced by another one.
function decideAgain(place) {
  const region = regions.all.find((one) => ["volume", "z", "y", "x"].every((key) => one.place[key] === place[key]));
  if (!region) { say(`The last decision is about section ${place.z} of ${place.volume}: go there to change it.`); return false; }
  regions.choose(region);
  if (mode === "regions") openRegion(region);
  else setMode("regions");
  say(`Here you decided: ${regions.words[region.decision]}. Decide again to change it.`);
  return true;
}

function answer(word) {
  const question = questions.current;
  if (mode !== "questions") { say("Open the questions first."); return; }
  // Where a section was just opened, its questions are still to come, and the one before is not in sight any more.
  if (question?.z !== z) { say(question ? "The questions of this section are still loading." : questions.progress.textContent); return; }
  const body = { volume: volume.name, z, question: question.key, answer: word, active_seconds: activity.take() };
  saver.send("api/answers", { volume: volume.name, z }, body);
  question.answer = word;
  painter.note({ undo: () => askAgain(question) });
  questions.go(1);
}

// The region that is open and seen: elsewhere than among regions, none is marked.
function marked() {
  const place = mode === "regions" ? regions.current?.place : null;
  return place?.z === z ? place : null;
}

// Marks the region of a place, where the list has one, and leaves the view as it is.
function mark(at) {
  const found = regions.all.find(({ place }) => ["z", "y", "x"].every((axis) => within(place, at, axis)));
  if (!found) return;
  regions.choose(found);
  stage.region = found.place;
  showStrip();
  stage.redraw();
}

async function clearRegion() {
  const place = marked();
  if (!place) { say("Choose a region of this section first."); return; }
  await stage.mask.whenLoaded(place);
  if (!painter.replace(place, new Uint8Array(place.height * place.width), "clear")) say("It is clear already.");
}

async function takeNeighbour(of, tool) {
  const place = marked();
  if (!place) { say("Choose a region of this section first."); return; }
  const missing = describeMissing(of);
  if (missing) { say(missing); return; }
  const mask = stage.mask;
  const at = ["z", "y", "x", "height", "width"].map((key) => place[key]).join("/");
  try {
    const { pixels } = await getBits(`api/neighbour/${of}/${encodeURIComponent(volume.name)}/${at}`);
    await mask.whenLoaded(place);
    if (mask === stage.mask && !painter.replace(place, pixels, tool)) say("Nothing differs.");
  } catch (error) {
    say(error.message);
  }
}

// Regions that are most likely wrong, or others drawn at random, by which the whole volume is judged.
async function showDrawn() {
  if (info.labelling) { say("What is labelled is chosen, and not drawn."); return; }
  regions.drawn = !regions.drawn;
  localStorage.setItem(DRAWN, regions.drawn);
  showTools();
  setMode("regions");
  await loadLists(volume.name);
  const first = regions.all.find((region) => people.isFree(region)) ?? regions.all[0];
  if (first) await regions.open(first);
  // What the list says of the volume, above it.
  $("regions").scrollTop = 0;
  say(regions.drawn ? "Regions drawn at random." : "Again those first that are most likely wrong.");
}

function listed() { return { questions, compare }[mode] ?? regions; }

function take(which) {
  if (mode !== "compare") { say("Open what is to be compared first."); return; }
  compare.take(which).catch((error) => say(error.message));
}

function setMode(next) {
  // Whoever comes back from a question or the history is where they were before.
  if (next === "regions" && mode !== "regions" && regions.current) openRegion(regions.current);
  // What was said is about what is not to be seen any more.
  if (next !== mode) say("");
  mode = next;
  for (const name of tabs) {
    $(name).hidden = name !== mode;
    $(`tab-${name}`).setAttribute("aria-selected", name === mode);
    $(`tab-${name}`).tabIndex = name === mode ? 0 : -1;
  }
  document.body.dataset.mode = mode;
  stage.ridge = null;
  stage.region = mode === "regions" ? regions.current?.place ?? null : stage.region;
  showStrip();
  document.querySelector("[data-action=strip]").disabled = mode !== "regions";
  if (mode === "questions") questions.load(volume.name, z).catch((error) => say(error.message));
  if (mode === "history") loadHistory();
  if (mode === "compare") compare.show().catch((error) => say(error.message));
  stage.redraw();
}

function loadHistory() {
  const open = async (place) => { await openSection(volume, place.z); stage.region = place; stage.fit(place); };
  const revert = async ({ number, place }) => {
    await saver.idle();
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ id: crypto.randomUUID(), number });
    const done = await fetch("api/reverts", { method: "POST", headers, body });
    if (!done.ok) say(`Not taken back: ${(await done.json()).detail}`);
    await open(place);
    await hear();
    loadHistory();
  };
  return showHistory(volume.name, regions.words, open, revert).catch((error) => say(error.message));
}

function hide(hidden) { stage.hidden = hidden; press("hide", hidden); stage.redraw(); }
function setSize(size) { painter.setSize(size); showTools(); }
function setOpacity(percent) { stage.opacity = percent / 100; $("opacity").value = percent; stage.redraw(); }
function setContrast(percent) { $("contrast").value = percent; stage.setContrast(Number($("contrast").value)); }
function setTool(tool) { painter.setTool(tool); showTools(); }

const ACTIONS = {
  brush: () => setTool("brush"), eraser: () => setTool("eraser"), polygon: () => setTool("polygon"),
  line: () => setTool("line"), fill: () => setTool("fill"), move: () => setTool("move"),
  smaller: () => setSize(painter.size - 1), larger: () => setSize(painter.size + 1),
  undo: () => painter.undo(), redo: () => painter.redo(), close: () => painter.close(), cancel: () => painter.cancel(),
  below: () => openSection(volume, z - 1), above: () => openSection(volume, z + 1),
  "copy-below": () => takeNeighbour("below", "copy"), "copy-above": () => takeNeighbour("above", "copy"),
  interpolate: () => takeNeighbour("between", "interpolate"),
  clear: clearRegion,
  strip: () => { strip.shown = !strip.shown; showTools(); showStrip(); },
  "three-d": () => {
    if (info.three_d) openThreeD(volume, { z, ...stage.centre() }).catch((error) => say(error.message));
    else say("Start segem review with --3d to see places in three dimensions.");
  },
  hide: () => hide(true),
  outline: () => { stage.outlined = !stage.outlined; showTools(); stage.redraw(); },
  probability: () => {
    if (!volume.probability) { say("This mask came without a probability."); return; }
    probability = !probability;
    showTools();
    stage.show(volume, z, shownKey());
  },
  fainter: () => setOpacity(Math.max(5, stage.opacity * 100 - 10)), stronger: () => setOpacity(Math.min(100, stage.opacity * 100 + 10)),
  "contrast-less": () => setContrast(Number($("contrast").value) - 20), "contrast-more": () => setContrast(Number($("contrast").value) + 20),
  "zoom-in": () => stage.zoomBy(1.5), "zoom-out": () => stage.zoomBy(1 / 1.5),
  fit: () => stage.fit(regions.current?.place ?? { y: 0, x: 0, height: volume.shape[1], width: volume.shape[2] }),
  left: () => stage.panBy(60, 0), right: () => stage.panBy(-60, 0), up: () => stage.panBy(0, 60), down: () => stage.panBy(0, -60),
  accept: () => decide("accept"), fix: () => decide("fix"), reject: () => decide("reject"), unsure: () => decide("unsure"),
  "note-focus": () => $("note").focus(),
  next: () => listed().go(1), previous: () => listed().go(-1),
  drawn: () => showDrawn().catch((error) => say(error.message)),
  keep: () => people.keep(volume.name).catch((error) => say(error.message)),
  release: () => people.release(volume.name).catch((error) => say(error.message)),
  compare: () => { if ($("tab-compare").hidden) say("No two people have read a region differently."); else setMode(mode === "compare" ? "regions" : "compare"); },
  "take-first": () => take("first"), "take-second": () => take("second"),
  ask: () => setMode(mode === "questions" ? "regions" : "questions"),
  yes: () => answer("yes"), no: () => answer("no"), unknown: () => answer("unknown"),
  help: () => ($("help").open ? $("help").close() : $("help").showModal()),
};

function release(action) {
  if (action === "hide" && stage.hidden) hide(false);
}

// The address says what is shown, so that it can be sent to others and a reload comes back to it.
function noteAddress() {
  if (!stage.isReady) return;
  const { y, x, scale } = stage.centre();
  history.replaceState(null, "", `#${encodeURIComponent(volume.name)}/${z}/${y.toFixed(2)}/${x.toFixed(2)}/${scale.toFixed(4)}`);
}

async function openAddress(hash = location.hash) {
  const [name, ...numbers] = hash.slice(1).split("/").map(decodeURIComponent);
  const found = info.volumes.find((one) => one.name === name);
  const [section, y, x, scale] = numbers.map(Number);
  if (found && scale > 0) {
    await openSection(found, section || 0, () => stage.goTo({ y, x, scale }, true));
    // First, as the strip takes room from the stage.
    mark({ z, y, x });
    stage.goTo({ y, x, scale }, true);
    return;
  }
  await openVolume(found ?? info.volumes.find((one) => one.name === localStorage.getItem(LAST)) ?? info.volumes[0]);
}

// Opens a volume where this person has stopped.
async function openVolume(next) {
  await loadLists(next.name);
  const first = people.resume(regions.all);
  await openSection(next, first?.place.z ?? 0, first && (() => stage.fit(first.place, true)));
  if (first) await regions.open(first);
}

$("run").textContent = info.run;
// Where the name does not fit.
document.querySelector("h1").title = info.run;
document.title = `Review ${info.run}`;
if (info.labelling) renamePage(info.volumes[0].name);
introduce(info.labelling);
document.querySelector("[data-action=three-d]").hidden = !info.three_d;
$("volume-label").hidden = info.volumes.length === 1;
$("volume").replaceChildren(...info.volumes.map(({ name }) => new Option(name, name)));
$("volume").addEventListener("change", () => {
  regions.current = null;
  setMode("regions");
  openVolume(info.volumes.find(({ name }) => name === $("volume").value)).catch((error) => say(error.message));
});
$("z").addEventListener("click", () => $("z").select());
$("z").addEventListener("change", () => openSection(volume, Math.round(Number($("z").value) || 0)));
// So that keys are those of the review again.
for (const id of ["volume", "z", "filter", "whose", "keeper"]) $(id).addEventListener("change", () => stage.marksCanvas.focus({ preventScroll: true }));
$("size").addEventListener("input", () => setSize(Number($("size").value)));
$("opacity").addEventListener("input", () => setOpacity(Number($("opacity").value)));
$("contrast").addEventListener("input", () => setContrast(Number($("contrast").value)));
$("filter").addEventListener("change", () => { people.state = $("filter").value; regions.show(); });
$("whose").addEventListener("change", () => { people.whose = $("whose").value; regions.show(); });
$("note").addEventListener("keydown", (event) => { if (["Enter", "Escape"].includes(event.key)) stage.marksCanvas.focus(); });
for (const button of document.querySelectorAll("[data-action]")) {
  if (button.dataset.action === "hide") {
    button.addEventListener("pointerdown", () => { hiding = stage.hidden ? 0 : performance.now(); ACTIONS.hide(); });
    button.addEventListener("pointerup", () => { if (performance.now() - hiding > CLICK_MS) release("hide"); });
    button.addEventListener("pointercancel", () => release("hide"));
    button.addEventListener("keydown", (event) => { if (["Space", "Enter"].includes(event.code)) ACTIONS.hide(); });
    button.addEventListener("keyup", () => release("hide"));
  } else {
    button.addEventListener("click", () => ACTIONS[button.dataset.action]());
  }
}
// Whoever uses the pointer has the keys of the review, not those of the button: Space hides the mask, and presses nothing.
addEventListener("click", ({ detail, target }) => {
  if (detail && target.closest("button, summary") && !target.closest("dialog")) stage.marksCanvas.focus({ preventScroll: true });
});
for (const name of tabs) {
  $(`tab-${name}`).addEventListener("click", () => setMode(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const there = tabs.filter((one) => !$(`tab-${one}`).hidden);
    const next = there[(there.indexOf(name) + step + there.length) % there.length];
    $(`tab-${next}`).focus();
    setMode(next);
  });
}
// The address that was followed: by now the page may have noted another one over it.
addEventListener("hashchange", ({ newURL }) => openAddress(new URL(newURL).hash));
addEventListener("beforeunload", (event) => { if (saver.waiting.length) event.preventDefault(); });
listen((action) => { if (!info.labelling || LABEL_KEYS[action] !== null) ACTIONS[action](); }, release);
if (info.labelling) showKeys($("keys"), LABEL_KEYS, renameText);
else showKeys($("keys"), {});
await saver.takeUp();
await openAddress();
setMode("regions");
showTools();
setInterval(() => hear().catch(() => {}), NEWS_MS);
document.body.dataset.ready = "yes";
