// What somebody needs to know who opens the page for the first time; it goes away for good once it was read.

const SEEN = "segem-introduced";
const STEPS = {
  review: [
    "Orange is what counts as membrane. Look at the blue square.",
    "Brush adds membrane, Eraser takes it away, Line follows it.",
    "Then say what the square is: Accept (it was right), Fixed (it is right now), Reject (not worth mending) or Unsure. The next one follows.",
    "Questions, on the left, ask about single membranes: one click each.",
  ],
  label: [
    "Orange is a guess of where membrane is. Make it right in the blue square, all of it.",
    "Brush adds membrane, Eraser takes it away, Line follows it, Clear begins from nothing.",
    "Then press Done: the square becomes a label, and the next one follows. Leave out what nobody can tell.",
  ],
};
const ALWAYS = "The wheel zooms, the right button moves, Hide shows the image alone. Everything saves itself; Help lists the keys.";

export function introduce(labelling) {
  const card = document.getElementById("intro");
  card.querySelector("ol").replaceChildren(...[...STEPS[labelling ? "label" : "review"], ALWAYS].map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  card.hidden = localStorage.getItem(SEEN) === "yes";
  card.querySelector("button").addEventListener("click", endIntroduction);
}

export function endIntroduction() {
  document.getElementById("intro").hidden = true;
  localStorage.setItem(SEEN, "yes");
}
