// What keys do. A key is known by its place on the keyboard, so that all of them lie where they do here on any layout;
// the help shows what is printed on it where the browser tells.

export const KEYS = [
  ["Tools", [
    ["brush", "KeyB", "Brush"], ["eraser", "KeyE", "Eraser"], ["polygon", "KeyG", "Polygon: a click for each corner, Enter closes it"],
    ["line", "KeyR", "Line along the membrane: click its points, Enter ends it"],
    ["fill", "KeyF", "Fill, or empty, the area under the pointer"], ["move", "KeyM", "Move the section with the pointer"],
    ["smaller", "BracketLeft", "Smaller brush"], ["larger", "BracketRight", "Larger brush"],
    ["undo", "KeyZ", "Undo, also with Ctrl or Cmd"], ["redo", "Shift+KeyZ", "Redo, also with Ctrl or Cmd"],
    ["close", "Enter", "Close the polygon, end the line"], ["cancel", "Escape", "Drop the polygon, the line or the stroke; leave a field"],
  ]],
  ["Section", [
    ["below", "KeyA", "Section before"], ["above", "KeyD", "Section after"],
    ["copy-below", "KeyJ", "Copy the region from the section before"], ["copy-above", "KeyL", "Copy the region from the section after"],
    ["interpolate", "KeyK", "Put in the region what lies between the sections before and after"],
    ["clear", "KeyW", "Take all membrane out of the region"],
    ["strip", "KeyS", "The region in the sections before and after, beside it"],
  ]],
  ["View", [
    ["three-d", "Shift+KeyV", "This place in three dimensions"],
    ["hide", "Space", "Hold to hide the mask"], ["outline", "KeyO", "Outline or filled"], ["probability", "KeyP", "Probability or image"],
    ["fainter", "Comma", "Fainter mask"], ["stronger", "Period", "Stronger mask"],
    ["contrast-less", "Shift+KeyC", "Less contrast"], ["contrast-more", "KeyC", "More contrast"],
    ["zoom-in", "Equal", "Zoom in"], ["zoom-out", "Minus", "Zoom out"], ["fit", "Digit0", "Show the whole region"],
    ["left", "ArrowLeft", "Move left"], ["right", "ArrowRight", "Move right"], ["up", "ArrowUp", "Move up"], ["down", "ArrowDown", "Move down"],
  ]],
  ["Regions", [
    ["accept", "Digit1", "Accept"], ["fix", "Digit2", "Fixed: right after my corrections"], ["reject", "Digit3", "Reject: not worth mending"],
    ["unsure", "Digit4", "Unsure"], ["note-focus", "KeyT", "Write a note"], ["next", "KeyX", "Next region or question"],
    ["previous", "Shift+KeyX", "Region or question before"],
    ["drawn", "Shift+KeyR", "Regions drawn at random: decide all, and the IoU of the whole volume follows; or those most likely wrong"],
    ["keep", "KeyI", "Keep the next ten regions, for you or whom you have chosen"], ["release", "Shift+KeyI", "Let go of them"],
  ]],
  ["Questions", [
    ["ask", "KeyQ", "Questions or regions"], ["yes", "KeyY", "Yes, there is a membrane"], ["no", "KeyN", "No, there is none"],
    ["unknown", "KeyU", "Don’t know"],
  ]],
  ["Two readings", [
    ["compare", "KeyV", "Regions that two people have read differently"], ["take-first", "Digit5", "Take the first reading"],
    ["take-second", "Digit6", "Take the second reading"],
  ]],
  ["Help", [["help", "KeyH", "This list"]]],
];

const NAMES = {
  BracketLeft: "[", BracketRight: "]", Comma: ",", Period: ".", Equal: "+", Minus: "−", Enter: "Enter", Escape: "Esc", Space: "Space",
  ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓",
};

const ACTIONS = new Map(KEYS.flatMap(([, keys]) => keys.map(([action, code]) => [code, action])));
// Elements that have a use of their own for keys.
const FIELDS = "input[type=number], input:not([type]), textarea, select";
const TYPED = `${FIELDS}, dialog[open] *`;
const MOVED = "input[type=range], [role=tab]";
const PRESSED = "button";

export function listen(act, release) {
  addEventListener("keydown", (event) => {
    // Whoever came into a field by Tab gets the keys of the review back.
    if (event.code === "Escape" && event.target.closest(FIELDS)) event.target.blur();
    // What opens the help closes it.
    if (event.code === "KeyH" && event.target.closest("#help")) { act("help"); return; }
    if (event.altKey || event.target.closest(TYPED)) return;
    if (event.target.closest(MOVED) && event.code.startsWith("Arrow")) return;
    if (event.target.closest(PRESSED) && ["Space", "Enter"].includes(event.code)) return;
    if (event.ctrlKey && event.code !== "KeyZ" && event.code !== "KeyY") return;
    // Cmd Z of a Mac is Ctrl Z elsewhere; all else that goes with it is the browser's.
    if (event.metaKey && event.code !== "KeyZ") return;
    let action = ACTIONS.get(`${event.shiftKey ? "Shift+" : ""}${event.code}`) ?? ACTIONS.get(event.code);
    if (event.ctrlKey && event.code === "KeyY") action = "redo";
    if (event.key === "?") action = "help";
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || REPEATED.has(action)) act(action);
  });
  addEventListener("keyup", (event) => { if (event.code === "Space") release("hide"); });
  // A key that is held while the window loses the keyboard is never seen to come up.
  addEventListener("blur", () => release("hide"));
}

const REPEATED = new Set([
  "smaller", "larger", "undo", "redo", "below", "above", "left", "right", "up", "down", "zoom-in", "zoom-out", "fainter", "stronger",
  "contrast-less", "contrast-more",
]);

// Fills the help with tables of the keys, and says on buttons which key does the same; `own` has what some actions are
// called here, and null for those that there are none of, and `rename` the words of this page.
export async function showKeys(container, own, rename = (text) => text) {
  const layout = await navigator.keyboard?.getLayoutMap?.().catch(() => null);
  const nameOf = (code) => code.split("+").map((part) => NAMES[part] ?? layout?.get(part)?.toUpperCase() ?? part.replace(/^(Key|Digit)/, "")).join(" ");
  const here = KEYS.map(([title, keys]) => [title, keys.filter(([action]) => own[action] !== null)]).filter(([, keys]) => keys.length);
  container.replaceChildren(...here.map(([title, keys]) => {
    const section = document.createElement("section");
    const heading = Object.assign(document.createElement("h3"), { textContent: rename(title) });
    const list = document.createElement("dl");
    for (const [action, code, what] of keys) {
      const term = document.createElement("dt");
      term.append(Object.assign(document.createElement("kbd"), { textContent: nameOf(code) }));
      list.append(term, Object.assign(document.createElement("dd"), { textContent: own[action] ?? rename(what) }));
    }
    section.append(heading, list);
    return section;
  }));
  for (const [action, code, what] of here.flatMap(([, keys]) => keys)) {
    const button = document.querySelector(`button[data-action="${action}"]`);
    if (!button) continue;
    button.title = `${button.title || what} (${nameOf(code)})`;
    button.ariaKeyShortcuts = nameOf(code).replace(" ", "+");
    if (button.closest(".answers, .decisions"))
      button.append(Object.assign(document.createElement("kbd"), { textContent: nameOf(code), ariaHidden: "true" }));
  }
}
