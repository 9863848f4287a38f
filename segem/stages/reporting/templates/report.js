"use strict";
// What a page does beyond what it says: leaf through sections, and keep what a reader marks. Without it there are links.
(() => {
  const { run, digest } = document.documentElement.dataset;
  const key = `segem marks ${run} ${digest}`;
  let kept = {};
  // A browser may refuse to keep anything for a file; marks then last as long as the page.
  try { kept = JSON.parse(localStorage.getItem(key)) || {}; } catch { kept = {}; }

  const make = (tag, values = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), values);
    element.append(...children);
    return element;
  };
  const keep = () => {
    try { localStorage.setItem(key, JSON.stringify(kept)); } catch { /* see above */ }
    countMarks();
  };
  // Also what was taken in before, and is withdrawn by being empty now.
  const said = () => Object.values(kept).filter((one) => one.mark || one.note || one.taken);
  const countMarks = () => {
    for (const place of document.querySelectorAll(".marking")) {
      const n = said().length;
      place.querySelector("output").textContent = n ? `${n} marked in this browser.` : "Nothing marked yet.";
      for (const button of place.querySelectorAll("button")) button.disabled = !n;
    }
  };
  const download = () => {
    const marks = said().map(({ taken, ...mark }) => mark).sort((a, b) => a.volume.localeCompare(b.volume) || a.section - b.section);
    const text = JSON.stringify({ schema: 1, run, digest, marks }, null, 2);
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "marks.json" });
    link.click();
    URL.revokeObjectURL(link.href);
  };

  const build = (leaf) => {
    const { volume, width, height, alone } = leaf.dataset;
    const links = [...leaf.querySelectorAll(".links a")];
    const before = Object.fromEntries(JSON.parse(leaf.dataset.marks).map((one) => [one.section, one]));
    const pictures = Array.from({ length: alone ? 1 : 2 }, () => make("img", { width: +width, height: +height }));
    // Each file holds both pictures side by side, and one half of it is shown in each place.
    for (const picture of pictures) picture.style.aspectRatio = `${width} / ${height}`;
    const slider = make("input", { type: "range", min: 0, max: links.length - 1, value: Math.floor((links.length - 1) / 2) });
    slider.setAttribute("aria-label", `Section of ${volume}`);
    const place = make("output");
    const note = make("input", { type: "text", maxLength: 2000, placeholder: "note" });
    note.setAttribute("aria-label", `Note on this section of ${volume}`);
    const judge = ["good", "bad", "unsure"].map((mark) => make("button", { type: "button", textContent: mark, value: mark }));
    const step = (by, name) => {
      const button = make("button", { type: "button", textContent: by < 0 ? "‹" : "›", onclick: () => { slider.value = +slider.value + by; show(); } });
      button.setAttribute("aria-label", name);
      return button;
    };
    const section = () => +links[slider.value].textContent;
    const mine = () => kept[`${volume} ${section()}`] || before[section()] || { volume, section: section(), mark: null, note: "" };
    const change = (values) => {
      kept[`${volume} ${section()}`] = { ...mine(), ...values, ...(section() in before ? { taken: true } : {}) };
      keep();
      show();
    };
    // Only pictures that are looked at are loaded.
    let looked = false;
    const show = () => {
      const z = section(), { mark, note: text } = mine();
      place.textContent = `section ${z}`;
      slider.setAttribute("aria-valuetext", `section ${z}`);
      pictures.forEach((picture, n) => {
        if (looked) picture.src = links[slider.value].href;
        picture.alt = `${volume}, section ${z}: ${n ? leaf.dataset.what : "raw image"}`;
      });
      note.value = text;
      for (const button of judge) button.setAttribute("aria-pressed", String(button.value === mark));
    };
    slider.oninput = show;
    note.onchange = () => change({ note: note.value.trim() });
    for (const button of judge) button.onclick = () => change({ mark: mine().mark === button.value ? null : button.value });
    leaf.prepend(
      make("div", { className: "controls" }, step(-1, "Section before"), slider, step(1, "Next section"), place),
      make("div", { className: alone ? "pair alone" : "pair" }, ...pictures),
      make("div", { className: "controls" }, "This section is", ...judge, note),
    );
    show();
    const started = new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting)) { started.disconnect(); looked = true; show(); }
    });
    started.observe(leaf);
  };

  for (const leaf of document.querySelectorAll(".leaf")) build(leaf);
  for (const place of document.querySelectorAll(".marking")) {
    place.hidden = false;
    place.append(
      make("p", { className: "controls" }, make("output"), " ",
        make("button", { type: "button", textContent: "Download marks", onclick: download }), " ",
        make("button", { type: "button", textContent: "Forget them", onclick: () => { kept = {}; keep(); location.reload(); } })),
    );
  }
  countMarks();
  // A printed page has everything open; browsers without ::details-content need it done for them.
  addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details")) one.open = true; });
})();
