// The page. Its address holds what is shown, but for a photo of one's own, which is kept nowhere.

const $ = (id) => document.getElementById(id);
const SHOWN = ["masks", "landmarks", "measures"];
const UNSURE = 0.05; // landmarks with a lower score, as `match-rcnn measure` has it

let about; // what the service said of itself
let state = {};
let photo = null; // {key, blob, url, width, height, garments}
let own = null; // a photo of one's own: {blob, name}
let asked = 0; // number of the latest question; answers to earlier ones are dropped
let searched = "";
let sketch = null; // a box that is being drawn, in pixels of the photo

// --- the address ---

function read() {
  const at = new URLSearchParams(location.search);
  const box = (at.get("box") ?? "").split(",").map(Number);
  return {
    sample: at.get("sample"), item: at.get("item"), own: at.has("own"),
    garment: Number.parseInt(at.get("garment")) || null,
    box: box.length === 4 && box.every(Number.isFinite) ? box : null,
    kind: at.get("kind"),
    show: at.has("show") ? at.get("show").split(" ").filter((s) => SHOWN.includes(s)) : ["masks"],
    from: Math.min(95, Math.max(0, Number.parseInt(at.get("from")) || 0)),
    category: at.get("category") ?? "", group: at.get("group") ?? "product",
  };
}

function address(of) {
  const at = new URLSearchParams();
  for (const name of ["sample", "item", "garment", "kind", "category"])
    if (of[name]) at.set(name, of[name]);
  if (of.own) at.set("own", "");
  if (of.box) at.set("box", of.box.join(","));
  if (of.show.join(" ") !== "masks") at.set("show", of.show.join(" "));
  if (of.from) at.set("from", of.from);
  if (of.group !== "product") at.set("group", of.group);
  return at.size ? `?${at}` : "/";
}

/** Change what is shown. `aside`: without a step in the browser's history. */
function go(changes, aside = false) {
  state = { ...state, ...changes };
  history[aside ? "replaceState" : "pushState"](null, "", address(state));
  render();
}

const NOTHING = { sample: null, item: null, own: false, garment: null, box: null, kind: null };

// --- talking to the service ---

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the service cannot be reached");
  }
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new Error(said.error ?? `the service answered ${response.status}`);
  }
  return response;
}

const askJson = async (path, options) => (await ask(path, options)).json();
const sending = (blob) => ({
  method: "POST", body: blob,
  headers: { "content-type": blob.type.startsWith("image/") ? blob.type : "application/octet-stream" },
});

function complain(error) {
  $("alert").hidden = !error;
  $("alert").textContent = error ? sentence(error.message) : "";
}

const sentence = (text) => text && text[0].toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");

// --- the photo ---

const key = () => state.sample ? `sample ${state.sample}` : state.item ? `item ${state.item}`
  : state.own ? "own" : null;

async function load() {
  const wanted = key(), mine = ++asked;
  if (photo?.url) URL.revokeObjectURL(photo.url);
  const next = photo = { key: wanted, garments: [] };
  searched = "";
  document.body.classList.add("busy");
  $("shapes").replaceChildren();
  $("photo").removeAttribute("src");
  try {
    await (state.item ? loadItem(next, state.item) : loadPhoto(next));
    if (mine === asked) complain(null);
  } catch (error) {
    if (mine !== asked) return;
    next.failed = true;
    complain(error);
  }
  if (mine !== asked) return;
  document.body.classList.remove("busy");
  render();
}

async function loadPhoto(next) {
  const blob = state.sample ? await (await ask(`/samples/${encodeURIComponent(state.sample)}`)).blob()
    : own?.blob;
  if (!blob) throw new Error("the photo was not kept; choose it again");
  if (blob.size > about.limits.max_bytes)
    throw new Error(`the photo's file is larger than ${bytes(about.limits.max_bytes)}`);
  next.blob = blob;
  display(next, blob, state.sample ? `Sample ${state.sample}` : own.name);
  Object.assign(next, await askJson("/predict", sending(blob)));
}

async function loadItem(next, id) {
  const item = await askJson(`/items?id=${encodeURIComponent(id)}`);
  next.item = item;
  if (!item.photo) return;
  const blob = await (await ask(`/picture?whole=1&id=${encodeURIComponent(id)}`)).blob();
  display(next, blob, `Photo of ${item.category ?? "an item"} ${id}`);
  [next.width, next.height] = item.photo;
}

function display(next, blob, alt) {
  if (photo !== next) return;
  next.url = URL.createObjectURL(blob);
  $("photo").src = next.url;
  $("photo").alt = alt;
}

function take(file) {
  if (!file) return;
  own = { blob: file, name: file.name };
  if (photo) photo.key = null;
  go({ ...NOTHING, own: true });
}

// --- what is shown ---

function render() {
  const at = key();
  $("start").hidden = at !== null;
  $("work").hidden = at === null;
  $("another").hidden = at === null;
  for (const box of document.getElementsByName("show")) box.checked = state.show.includes(box.value);
  $("from").value = state.from;
  $("from").nextElementSibling.value = `${state.from} %`;
  $("group").value = state.group;
  $("category").value = state.category;
  if (at === null) {
    asked++;
    photo = null;
    document.body.classList.remove("busy");
    document.title = "Match R-CNN";
    return;
  }
  if (photo?.key !== at) {
    load();
  }
  const busy = document.body.classList.contains("busy");
  document.title = `${state.sample ?? state.item ?? own?.name ?? "Photo"} – Match R-CNN`;
  const single = Boolean(state.item);
  for (const box of document.getElementsByName("show")) box.parentElement.hidden = single;
  $("draw").hidden = single || !about.embeds;
  $("from").parentElement.hidden = single;
  $("stage").hidden = Boolean(photo.failed || (single && photo.item && !photo.item.photo));
  list(busy);
  draw();
  describe();
  search();
}

/** The garments that are certain enough, with their numbers from 1. */
const shown = () => photo.garments.map((garment, i) => ({ ...garment, number: i + 1 }))
  .filter((garment) => garment.score * 100 >= state.from);

const colour = (kind) => {
  const place = about.categories.indexOf(kind);
  return `oklch(0.72 0.15 ${(25 + Math.max(0, place) * 137.5) % 360})`;
};
const percent = (score) => `${Math.round(100 * score)} %`;
const number = (value) => value.toLocaleString("en");
const bytes = (value) => `${number(Math.round(value / 2 ** 20))} MB`;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function list(busy) {
  const garments = shown();
  const found = garments.length === 1 ? "One garment" : `${garments.length || "No"} garments`;
  $("status").textContent = busy ? "Looking for garments …" : photo.failed ? ""
    : state.item ? `${sentence(photo.item?.category ?? "an item")} ${state.item}`
    : garments.length || !photo.garments.length ? `${found}${about.gallery && garments.length ? ". Choose one to search for it" : ""}.`
    : `None of ${photo.garments.length} garments is that certain.`;
  const held = $("garments").contains(document.activeElement) && document.activeElement.dataset.garment;
  $("garments").replaceChildren(...garments.map((garment) => {
    const button = make("button", { type: "button", "data-garment": garment.number,
      "aria-pressed": state.garment === garment.number },
      garment.category, make("b", {}, percent(garment.score)));
    button.style.setProperty("--c", colour(garment.category));
    button.onclick = () => choose(garment.number);
    return make("li", {}, button);
  }));
  if (held) document.querySelector(`#garments [data-garment="${held}"]`)?.focus();
}

function choose(garment) {
  go({ garment: state.garment === garment ? null : garment, box: null, kind: null });
}

const chosen = () => shown().find((garment) => garment.number === state.garment);

// --- the drawing over the photo ---

function put(parent, tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

function draw() {
  const svg = $("shapes");
  const focused = svg.contains(document.activeElement) ? document.activeElement.dataset.garment : null;
  svg.replaceChildren();
  const image = $("photo");
  if (!photo?.width || !image.clientWidth) return;
  const k = image.clientWidth / photo.width, l = image.clientHeight / photo.height;
  svg.setAttribute("viewBox", `0 0 ${image.clientWidth} ${image.clientHeight}`);
  const at = ([x, y]) => `${(x * k).toFixed(1)},${(y * l).toFixed(1)}`;
  const frame = (parent, [x1, y1, x2, y2], name) => put(parent, "rect", { class: name,
    x: x1 * k, y: y1 * l, width: (x2 - x1) * k, height: (y2 - y1) * l, rx: 4 });
  const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  const garments = shown().sort((a, b) => area(b) - area(a)); // small ones above large ones
  for (const garment of garments) {
    const group = put(svg, "g", { class: "garment", role: "button", tabindex: 0,
      "data-garment": garment.number, "aria-pressed": state.garment === garment.number,
      "aria-label": `${garment.category}, ${percent(garment.score)}` });
    group.style.setProperty("--c", colour(garment.category));
    group.classList.toggle("chosen", state.garment === garment.number);
    put(group, "title", {}, `${garment.category}, ${percent(garment.score)}`);
    if (state.show.includes("masks") && garment.shape?.length) {
      const d = garment.shape.map((rim) => `M${rim.map(at).join("L")}Z`).join("");
      put(group, "path", { class: "halo", d });
      put(group, "path", { class: "fill", d });
    } else {
      frame(group, garment.box, "halo");
      frame(group, garment.box, "frame");
    }
    group.onclick = () => choose(garment.number);
    group.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(garment.number);
    };
    if (focused === String(garment.number)) group.focus();
  }
  const marked = chosen() ? [chosen()] : garments;
  if (state.show.includes("landmarks"))
    for (const garment of marked)
      for (const [x, y, score] of garment.landmarks ?? []) {
        const dot = put(svg, "circle", { class: score < UNSURE ? "dot unsure" : "dot",
          cx: x * k, cy: y * l, r: 3.5, "pointer-events": "none" });
        dot.style.setProperty("--c", colour(garment.category));
      }
  if (state.show.includes("measures")) marked.forEach((garment) => lengths(svg, garment, at));
  if (state.item && photo.item?.box) frame(put(svg, "g", { class: "garment chosen" }), photo.item.box, "frame");
  if (state.box) frame(put(svg, "g", { class: "garment chosen" }), state.box, "frame");
  if (sketch) frame(svg, sketch, "sketch");
}

function lengths(svg, garment, at) {
  const names = [];
  for (const length of garment.measures) {
    for (const line of length.lines)
      for (const layer of ["length back", length.unsure.length ? "length unsure" : "length"])
        put(svg, "polyline", { class: layer, points: line.map(at).join(" "), "pointer-events": "none" });
    const [x, y] = at(length.lines[0].reduce((a, b) => [a[0] + b[0], a[1] + b[1]])
      .map((sum) => sum / length.lines[0].length)).split(",").map(Number);
    names.push([x, y, `${length.name} ${Math.round(length.pixels)}`]);
  }
  let lowest = -Infinity;
  const right = $("photo").clientWidth;
  for (const [x, y, text] of names.sort((a, b) => a[1] - b[1])) {
    lowest = Math.max(y, lowest + 15); // no name on another
    const half = 3.4 * text.length; // nor over the rim
    put(svg, "text", { x: Math.min(right - half, Math.max(half, x)), y: lowest, "text-anchor": "middle" }, text);
  }
}

// --- a box of one's own ---

function drawing(on) {
  $("draw").setAttribute("aria-pressed", on);
  $("shapes").classList.toggle("drawing", on);
  $("hint").hidden = !on;
  sketch = on ? [0.3, 0.3, 0.7, 0.7].map((part, i) => part * (i % 2 ? photo.height : photo.width)) : null;
  $("shapes").toggleAttribute("tabindex", on);
  if (on) {
    $("shapes").setAttribute("tabindex", "0");
    $("shapes").setAttribute("aria-label", "A box: arrows move it, Shift and arrows size it, Enter takes it");
    $("shapes").focus();
  } else {
    $("shapes").setAttribute("aria-label", "Garments in the photo");
  }
  draw();
}

const isDrawing = () => $("shapes").classList.contains("drawing");

function placed(event) {
  const rim = $("photo").getBoundingClientRect();
  const part = (value, start, size) => Math.min(1, Math.max(0, (value - start) / size));
  return [part(event.clientX, rim.left, rim.width) * photo.width,
    part(event.clientY, rim.top, rim.height) * photo.height];
}

function finish() {
  const box = sketch.map(Math.round);
  const small = box[2] - box[0] < 4 || box[3] - box[1] < 4;
  drawing(false);
  if (!small) go({ garment: null, box, kind: null });
}

function wireDrawing() {
  const svg = $("shapes");
  let from = null;
  $("draw").onclick = () => photo?.width && drawing(!isDrawing());
  svg.addEventListener("pointerdown", (event) => {
    if (!isDrawing()) return;
    event.preventDefault();
    svg.setPointerCapture(event.pointerId);
    from = placed(event);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = placed(event);
    sketch = [Math.min(from[0], to[0]), Math.min(from[1], to[1]),
      Math.max(from[0], to[0]), Math.max(from[1], to[1])];
    draw();
  });
  svg.addEventListener("pointerup", () => {
    if (!from) return;
    from = null;
    finish();
  });
  svg.addEventListener("pointercancel", () => { from = null; });
  svg.addEventListener("click", (event) => { if (isDrawing()) event.stopPropagation(); }, true);
  svg.addEventListener("keydown", (event) => {
    if (!isDrawing()) return;
    const step = Math.max(photo.width, photo.height) / 50;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Enter") finish();
    else if (dx || dy) nudge(dx * step, dy * step, event.shiftKey);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isDrawing()) {
      drawing(false);
      $("draw").focus();
    }
  });
}

function nudge(dx, dy, size) {
  const [x1, y1, x2, y2] = sketch;
  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  if (size) {
    sketch = [x1, y1, within(x2 + dx, x1 + 4, photo.width), within(y2 + dy, y1 + 4, photo.height)];
  } else {
    const x = within(x1 + dx, 0, photo.width - (x2 - x1));
    const y = within(y1 + dy, 0, photo.height - (y2 - y1));
    sketch = [x, y, x + x2 - x1, y + y2 - y1];
  }
  draw();
}

// --- one garment's values ---

function describe() {
  const parts = [], garment = chosen();
  if (garment) {
    parts.push(make("h2", {}, garment.category));
    const traits = Object.entries(garment.attributes ?? {});
    if (traits.length)
      parts.push(make("ul", { "aria-label": "Attributes" },
        ...traits.map(([name, score]) => make("li", {}, `${name} ${percent(score)}`))));
    if (garment.measures.length) {
      parts.push(make("dl", {}, ...garment.measures.map((length) => make("div", {},
        make("dt", {}, length.name + (length.unsure.length ? " ?" : "")),
        make("dd", {}, length.ratio === null ? `${Math.round(length.pixels)} px` : length.ratio.toFixed(2))))));
      const unsure = garment.measures.some((length) => length.unsure.length);
      parts.push(make("p", { class: "quiet" }, "Lengths are ratios to the garment's length"
        + (unsure ? "; those with a ? rest on landmarks that are hardly seen." : ".")));
    }
  } else if (state.box) {
    const pick = make("select", { id: "kind" }, make("option", { value: "" }, "as the model sees it"),
      ...about.categories.map((name) => make("option", { value: name }, name)));
    pick.value = state.kind ?? "";
    pick.onchange = () => go({ kind: pick.value || null });
    parts.push(make("h2", {}, "Your box"), make("label", {}, "It holds ", pick));
  } else if (state.item && photo.item) {
    const { category, product, attributes } = photo.item;
    parts.push(make("h2", {}, category ?? "Item"));
    if (attributes.length)
      parts.push(make("ul", { "aria-label": "Attributes" }, ...attributes.map((name) => make("li", {}, name))));
    if (product) parts.push(make("p", { class: "quiet" }, `Product ${product}`));
  }
  const open = document.activeElement?.id === "kind";
  $("details").replaceChildren(...parts);
  if (open) $("kind")?.focus();
}

// --- search ---

async function search() {
  const garment = chosen();
  const ready = about.gallery && !document.body.classList.contains("busy") && !photo.failed;
  const any = ready && (garment?.embedding || state.box || state.item);
  $("results").hidden = !any;
  const what = any && JSON.stringify([photo.key, state.garment, state.box, state.kind, state.category, state.group]);
  if (!any) searched = "";
  if (!any || what === searched) return;
  searched = what;
  document.body.classList.add("searching");
  $("none").textContent = "";
  try {
    const query = state.item ? { item: state.item } : pick(garment ?? await boxed());
    const body = JSON.stringify({ ...query, top: 24, category: state.category || null, group_by: state.group });
    const { results } = await askJson("/search", { method: "POST", body, headers: { "content-type": "application/json" } });
    if (what !== searched) return;
    complain(null);
    cards(results[0].hits);
  } catch (error) {
    if (what !== searched) return;
    complain(error);
    cards([]);
  }
  document.body.classList.remove("searching");
}

const pick = ({ embedding, features }) => ({ embedding, features });

/** One's own box as a garment, as the model sees it or of the category that was said. */
async function boxed() {
  const at = new URLSearchParams({ box: state.box.join(",") });
  if (state.kind) at.set("category", state.kind);
  return (await askJson(`/embed?${at}`, sending(photo.blob))).garments[0];
}

function cards(hits) {
  $("none").textContent = hits.length ? "" : "Nothing found.";
  $("hits").replaceChildren(...hits.map((hit) => {
    const kind = hit.category ?? "item";
    const picture = make("span", { class: "picture" });
    if (hit.image) {
      const image = make("img", { src: `/picture?id=${encodeURIComponent(hit.id)}`, alt: "", loading: "lazy" });
      image.onerror = () => image.replaceWith(kind);
      picture.append(image);
    } else picture.append(kind);
    const next = { ...state, ...NOTHING, item: hit.id };
    const link = make("a", { href: address(next), "data-id": hit.id, title: hit.id,
      "aria-label": `${kind}, ${percent(hit.probability)} alike, ${hit.id}; search for it` },
      picture,
      make("span", { class: "alike" }, percent(hit.probability), make("small", { title: "match score, of which the percentage is the probability" }, (hit.similarity ?? hit.score).toFixed(2))),
      make("span", { class: "name" }, kind),
      make("span", { class: "name" }, hit.product ?? hit.id));
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go({ ...NOTHING, item: hit.id });
      scrollTo({ top: 0 });
    };
    return make("li", {}, link);
  }));
}

// --- start ---

function wire() {
  addEventListener("popstate", () => { state = read(); render(); });
  $("file").onchange = (event) => { take(event.target.files[0]); event.target.value = ""; };
  $("another").onclick = () => { complain(null); go(NOTHING); $("file").focus(); };
  for (const box of document.getElementsByName("show"))
    box.onchange = () => go({ show: SHOWN.filter((name) => document.querySelector(`[name=show][value=${name}]`).checked) }, true);
  $("from").oninput = () => go({ from: Number($("from").value) }, true);
  $("category").onchange = () => go({ category: $("category").value });
  $("group").onchange = () => go({ group: $("group").value });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragged"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragged"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragged");
    take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => take(event.clipboardData.files[0]));
  new ResizeObserver(() => photo && draw()).observe($("photo"));
  $("photo").onload = ({ target }) => {
    target.style.setProperty("--ratio", target.naturalWidth / target.naturalHeight);
    draw();
  };
  $("theme").onclick = () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
      || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    localStorage.setItem("theme", document.documentElement.dataset.theme = dark ? "light" : "dark");
  };
  wireDrawing();
}

function introduce() {
  const { gallery, limits } = about;
  $("about").textContent = gallery ? `${number(gallery.items)} garments to search` : "";
  $("and").textContent = gallery ? ", and what the gallery has like them" : "";
  $("limits").textContent = `JPEG, PNG or WebP, up to ${bytes(limits.max_bytes)} and ${number(Math.round(limits.max_pixels / 1e6))} megapixels`;
  $("model").textContent = `${about.model} · ${about.version}`;
  $("category").replaceChildren(make("option", { value: "" }, "every"),
    ...(gallery?.categories ?? []).map((name) => make("option", { value: name }, name)));
  $("samples").replaceChildren(...about.samples.map((name) => {
    const link = make("a", { href: `?sample=${encodeURIComponent(name)}` },
      make("img", { src: `/samples/${encodeURIComponent(name)}`, alt: "", width: 160, height: 200 }),
      name.replace(/\.\w+$/, "").replaceAll("_", " "));
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go({ ...NOTHING, sample: name });
    };
    return make("li", {}, link);
  }));
}

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
try {
  about = await askJson("/about");
  introduce();
  wire();
  state = read();
  render();
} catch (error) {
  complain(error);
}
