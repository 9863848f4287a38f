// What is called otherwise where ground truth is painted from nothing, and how far one has come.

const ENOUGH = 3;

export const LABELLING = {
  words: { accept: "labelled", fix: "labelled", reject: "left out", unsure: "unsure" },

  describe(regions) {
    const labelled = regions.filter(({ decision }) => ["accept", "fix"].includes(decision));
    const sections = new Set(labelled.map(({ place }) => place.z)).size;
    const done = `${labelled.length} of ${regions.length} patches labelled`;
    return sections < ENOUGH ? `${done}; a model needs some in ${ENOUGH} sections, so far ${sections}` : `${done}, in ${sections} sections`;
  },
};

// What keys do here instead; null for what there is nothing of.
export const LABEL_KEYS = {
  accept: "Done: all membrane of the patch is painted", reject: "Leave out: nobody can tell here", fix: null, unsure: null, drawn: null,
  next: "Next patch", previous: "Patch before", ask: null, yes: null, no: null, unknown: null, compare: null, "take-first": null, "take-second": null,
};

export const renameText = (text) => text.replaceAll("region", "patch").replaceAll("Region", "Patch");

// Renames what the page says of a review; before keys are written on buttons.
export function renamePage(volume) {
  const button = (action) => document.querySelector(`[data-action=${action}]`);
  document.title = `Label ${volume}`;
  document.querySelector("h1").textContent = `Label ${volume}`;
  document.getElementById("tab-regions").textContent = "Patches";
  document.getElementById("tab-questions").hidden = true;
  document.getElementById("of-region").textContent = "Patch:";
  document.getElementById("help-title").textContent = "Label by keys";
  button("drawn").hidden = button("fix").hidden = button("unsure").hidden = true;
  Object.assign(button("accept"), { textContent: "Done", title: "All membrane of this patch is painted: train on it" });
  Object.assign(button("reject"), { textContent: "Leave out", title: "Nobody can tell here: no part of the labels" });
  document.getElementById("what-to-do").textContent =
    "Paint all membrane of the marked patch and take away what is none, then press Done: the next patch follows. Only patches " +
    "that are done become labels. Everything saves itself; the manifest to train on is written when segem review ends.";
}
