// The stage: OpenSeadragon draws the image, and above it lie the mask and the marks, both placed by its viewport.

import { outline } from "./mask.js";

/* global OpenSeadragon */

export const MASK_COLOUR = [240, 150, 30];
const MARK = "#5ec8ff";
// What the overview takes of the width of the stage.
const OVERVIEW_PX = 148;

export class Stage {
  // `on` has: moved() after the view has changed.
  constructor(tilePx, on) {
    Object.assign(this, { tilePx, on, mask: null, hidden: false, outlined: false, opacity: 0.55, cursor: null });
    Object.assign(this, { region: null, ridge: null, polygon: null, path: null, asked: false, drawn: null });
    this.maskCanvas = document.getElementById("mask");
    this.marksCanvas = document.getElementById("marks");
    this.scratch = document.createElement("canvas");
    // OpenSeadragon puts in a style of its own, which the page's policy forbids, unless it finds one of this name.
    const style = document.createElementNS("urn:segem", "style");
    style.setAttribute("data-openseadragon-mobile-css", "");
    document.head.append(style);
    this.viewer = new OpenSeadragon.Viewer({
      id: "viewer",
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: true,
      navigatorId: "overview",
      mouseNavEnabled: false,
      keyboardNavEnabled: false,
      animationTime: 0.15,
      minZoomImageRatio: 0.5,
      maxZoomPixelRatio: 24,
      visibilityRatio: 0.2,
      // Or each section, which replaces the one before, would be shown whole: a place is compared through the stack.
      preserveViewport: true,
      imageLoaderLimit: 6,
      immediateRender: true,
      preserveImageSizeOnResize: true,
    });
    // OpenSeadragon holds each new size against the one before, which at first is this very object, changed by then: the
    // first resize, when the strip appears, would scale the image.
    this.viewer.viewport.containerSize = this.viewer.viewport.containerSize.clone();
    this.viewer.canvas.tabIndex = -1;
    for (const event of ["animation", "resize", "update-viewport"]) this.viewer.addHandler(event, () => this.redraw());
    // In a window of another size, what was fitted is fitted again, unless somebody has zoomed or moved since.
    // OpenSeadragon keeps the scale by a step that comes after this event.
    const refit = () => { if (this.fitted) this.fit(this.fitted, true); };
    this.viewer.addHandler("after-resize", () => requestAnimationFrame(refit));
    this.viewer.addHandler("animation-finish", () => this.on.moved());
    new ResizeObserver(() => this.redraw()).observe(document.getElementById("stage"));
  }

  // Shows the pictures of a section; the view stays where it is unless the volume is another one, which is shown whole, or
  // from the beginning by `look()`: what is seen for a moment only is not asked for.
  show(volume, z, key, look = () => this.viewer.viewport.goHome(true)) {
    const [, height, width] = volume.shape;
    const last = volume.levels - 1;
    const tileSource = {
      width, height, tileSize: this.tilePx, minLevel: 0, maxLevel: last,
      getTileUrl: (level, column, row) => `tiles/${key}/${last - level}/${z}/${row}/${column}`,
    };
    const another = this.volume !== volume;
    Object.assign(this, { volume });
    const replace = this.viewer.world.getItemCount() > 0;
    return new Promise((resolve) => this.viewer.addTiledImage({
      tileSource, index: 0, replace,
      success: ({ item }) => {
        this.item = item;
        if (another) look();
        this.smooth();
        this.redraw();
        resolve();
      },
      error: () => resolve(),
    }));
  }

  get isReady() { return Boolean(this.item && this.viewer.world.getItemCount()); }

  // Where pixel (0, 0) lies, and the size of a pixel, in CSS pixels of the stage, as they are drawn just now.
  view() {
    const { viewport } = this.viewer;
    const origin = viewport.pixelFromPoint(this.item.imageToViewportCoordinates(0, 0), true);
    return { x: origin.x, y: origin.y, scale: this.item.viewportToImageZoom(viewport.getZoom(true)) };
  }

  // The pixel under a place of the stage.
  pixelAt(x, y) {
    const view = this.view();
    return [Math.floor((y - view.y) / view.scale), Math.floor((x - view.x) / view.scale)];
  }

  // The middle of what is shown, and the scale that it will have when it has come to rest.
  centre() {
    const { viewport } = this.viewer;
    const point = this.item.viewportToImageCoordinates(viewport.getCenter(false));
    return { y: point.y, x: point.x, scale: this.item.viewportToImageZoom(viewport.getZoom(false)) };
  }

  goTo({ y, x, scale }, immediately = false) {
    this.fitted = null;
    const { viewport } = this.viewer;
    viewport.panTo(this.item.imageToViewportCoordinates(x, y), immediately);
    if (scale) viewport.zoomTo(this.item.imageToViewportZoom(scale), null, immediately);
    this.redraw();
  }

  // Moves to a rectangle, unless some of it is in view; returns whether it had to.
  reveal({ y, x, height, width }) {
    const { clientWidth, clientHeight } = this.marksCanvas;
    const view = this.view();
    const [top, left] = [view.y + y * view.scale, view.x + x * view.scale];
    const isSeen = top < clientHeight && left < clientWidth && top + height * view.scale > 0 && left + width * view.scale > 0;
    if (!isSeen) this.goTo({ y: y + height / 2, x: x + width / 2 });
    return !isSeen;
  }

  fit({ y, x, height, width }, immediately = false) {
    const { clientWidth, clientHeight } = this.marksCanvas;
    // Beside the overview, which would cover a corner, where there is room for that.
    const free = Math.max(clientWidth - 2 * OVERVIEW_PX, 0.6 * clientWidth);
    const scale = Math.min(4, 0.8 * clientHeight / height, 0.8 * clientWidth / width, free / width);
    this.goTo({ y: y + height / 2, x: x + width / 2, scale }, immediately);
    this.fitted = { y, x, height, width };
  }

  zoomBy(factor, x = this.marksCanvas.clientWidth / 2, y = this.marksCanvas.clientHeight / 2) {
    const { viewport } = this.viewer;
    this.fitted = null;
    viewport.zoomBy(factor, viewport.pointFromPixel(new OpenSeadragon.Point(x, y), true));
    viewport.applyConstraints();
  }

  panBy(dx, dy) {
    const { viewport } = this.viewer;
    this.fitted = null;
    viewport.panBy(viewport.deltaPointsFromPixels(new OpenSeadragon.Point(-dx, -dy), true), true);
  }

  setContrast(percent) { this.viewer.drawer.canvas.style.filter = percent === 100 ? "" : `contrast(${percent}%)`; }

  // Blurs nothing once single pixels are seen, and nothing flickers when there are more of them than the screen has.
  smooth() {
    const smoothed = this.view().scale * devicePixelRatio < 1;
    // Setting it makes the viewer draw again, which ends here again.
    if (smoothed !== this.smoothed) this.viewer.drawer.setImageSmoothingEnabled((this.smoothed = smoothed));
  }

  redraw() {
    this.maskCanvas.dataset.drawn = "partly";
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.draw(); });
  }

  draw() {
    if (!this.isReady || !this.mask) return;
    const ratio = devicePixelRatio;
    for (const canvas of [this.maskCanvas, this.marksCanvas]) {
      const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
    this.smooth();
    const { x, y, scale } = this.view();
    const view = { x: x * ratio, y: y * ratio, scale: scale * ratio };
    const context = this.maskCanvas.getContext("2d");
    context.clearRect(0, 0, this.maskCanvas.width, this.maskCanvas.height);
    this.maskCanvas.style.opacity = this.hidden ? 0 : this.opacity;
    this.drawn = this.mask.draw(context, view, MASK_COLOUR);
    this.maskCanvas.dataset.drawn = this.drawn.missing ? "partly" : "all";
    if (this.outlined) outline(context, this.scratch, Math.max(1, Math.round(1.5 * ratio)));
    this.drawMarks(view, ratio);
  }

  drawMarks(view, ratio) {
    const context = this.marksCanvas.getContext("2d");
    context.clearRect(0, 0, this.marksCanvas.width, this.marksCanvas.height);
    const at = (y, x) => [view.x + x * view.scale, view.y + y * view.scale];
    const trace = (width, colour, path) => {
      // On a dark line, so that it is seen on light and on dark tissue.
      for (const [stroke, thick] of [["#0009", width + 2], [colour, width]]) {
        Object.assign(context, { strokeStyle: stroke, lineWidth: thick * ratio });
        context.beginPath();
        path();
        context.stroke();
      }
    };
    if (this.region) {
      const { y, x, height, width } = this.region;
      // Dashed in the sections beside its own.
      context.setLineDash(this.region.z === this.mask.z ? [] : [6 * ratio, 6 * ratio]);
      trace(1.5, MARK, () => context.rect(...at(y, x), width * view.scale, height * view.scale));
      context.setLineDash([]);
    }
    if (this.ridge && !this.hidden) {
      context.fillStyle = MARK;
      const size = Math.max(view.scale, 2 * ratio);
      for (const [y, x] of this.ridge) {
        const [left, top] = at(y + 0.5, x + 0.5);
        context.fillRect(left - size / 2, top - size / 2, size, size);
      }
    }
    if (this.path) {
      const { pixels, width } = this.path;
      Object.assign(context, { strokeStyle: MARK, globalAlpha: 0.6, lineWidth: Math.max(width * view.scale, ratio), lineCap: "round", lineJoin: "round" });
      context.beginPath();
      for (const [y, x] of pixels) context.lineTo(...at(y + 0.5, x + 0.5));
      context.stroke();
      context.globalAlpha = 1;
    }
    if (this.polygon?.length) {
      const follow = (corners) => { for (const [y, x] of corners) context.lineTo(...at(y + 0.5, x + 0.5)); };
      // What Enter paints, and dashed what a click here would add.
      trace(1.5, MARK, () => { follow(this.polygon); context.closePath(); });
      if (this.cursor) {
        context.setLineDash([4 * ratio, 4 * ratio]);
        trace(1, MARK, () => follow([this.polygon.at(-1), this.cursor.pixel, this.polygon[0]]));
        context.setLineDash([]);
      }
    }
    if (this.cursor?.size) {
      const [y, x] = this.cursor.pixel;
      trace(1, "#fff", () => context.arc(...at(y + 0.5, x + 0.5), (this.cursor.size / 2) * view.scale, 0, 7));
    }
  }
}
