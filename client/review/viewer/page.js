// The review page: two linked views of one case, one mask, and what the reader decides.
const { Niivue, SLICE_TYPE } = window.niivue;

const UNDOS = 20;
const RED = { R: [0, 255], G: [0, 60], B: [0, 40], A: [0, 255], I: [0, 1], labels: ["", "tumour"], min: 0, max: 1 };
const at = (id) => document.getElementById(id);
const names = ["t1ce", "flair"];
const views = {};
const state = { case: "", tool: "brush", size: 3, filled: false, shown: true, undo: [], changed: false, since: 0, busy: true };
window.review = { views, state };  // for the browser test

function tell(text) { at("told").textContent = text; }

async function ask(place, body) {
  const options = body === undefined ? {} : { method: "POST", body: body instanceof Uint8Array ? body : JSON.stringify(body) };
  const reply = await fetch(`api/${place}`, options);
  const answer = await reply.json();
  if (!reply.ok) {
    const error = new Error([answer.problem, answer.fix, answer.local].filter(Boolean).join(" ") || answer.code);
    error.code = answer.code;
    throw error;
  }
  return answer;
}

async function make(name) {
  const view = new Niivue({
    isResizeCanvas: true, backColor: [0, 0, 0, 1], crosshairColor: [0.4, 0.7, 0.9, 0.6], crosshairWidth: 0.6,
    show3Dcrosshair: false, isRadiologicalConvention: true, dragAndDropEnabled: false, multiplanarShowRender: 0,
    isOrientCube: false, heroImageFraction: 0.6, heroSliceType: SLICE_TYPE.AXIAL, isColorbar: false, isCornerOrientationText: true, maxDrawUndoBitmaps: 2, logLevel: "error",
  });
  await view.attachToCanvas(at(name));
  view.setSliceType(SLICE_TYPE.MULTIPLANAR);
  views[name] = view;
  at(name).addEventListener("pointerdown", (event) => { if (event.button === 0) begin(view); }, true);
  return view;
}

// A stroke: remember the mask before it, hand it to the other view after it.
let drawing = null;
function begin(view) {
  if (state.busy || state.tool === "view" || !view.drawBitmap) return;
  drawing = { view, before: view.drawBitmap.slice() };
}
window.addEventListener("pointerup", () => setTimeout(finish, 0));
function finish() {
  if (!drawing) return;
  const { view, before } = drawing;
  drawing = null;
  if (before.every((voxel, i) => voxel === view.drawBitmap[i])) return;
  state.undo.push(before);
  if (state.undo.length > UNDOS) state.undo.shift();
  show(view.drawBitmap);
  state.changed = true;
}

function show(bitmap) {
  for (const view of Object.values(views)) {
    if (view.drawBitmap !== bitmap) view.drawBitmap.set(bitmap);
    view.refreshDrawing(true);
  }
}

function undo() {
  const before = state.undo.pop();
  if (!before) return tell("Nothing to undo");
  show(before);
  state.changed = true;
}

function arm() {
  for (const view of Object.values(views)) {
    view.setDrawingEnabled(state.tool !== "view");
    view.setPenValue(state.tool === "erase" ? 0 : 1, state.filled && state.tool === "brush");
    view.opts.penSize = state.size;
    view.setDrawOpacity(state.shown ? 0.3 : 0);
  }
  for (const tool of ["brush", "erase", "view"]) at(tool).setAttribute("aria-pressed", state.tool === tool);
  at("fill").setAttribute("aria-pressed", state.filled);
  at("hide").setAttribute("aria-pressed", state.shown);
  at("size").textContent = state.size;
}

async function next() {
  state.busy = true;
  state.case = "";
  const queue = await ask("queue");
  at("left").textContent = `${queue.cases.length} to read, ${queue.finished} finished`;
  if (!queue.cases.length) {
    at("case").textContent = "Nothing to read";
    at("flags").textContent = "";
    return tell("Every case is read. You can close this page.");
  }
  const name = queue.cases[0].case;
  tell(`Loading ${name}`);
  const opened = await ask(`${encodeURIComponent(name)}/open`, {});
  const base = new URL(`api/${encodeURIComponent(name)}/`, document.baseURI);
  for (const sequence of names) {
    const view = views[sequence];
    if (view.drawBitmap) view.closeDrawing();
    await view.loadVolumes([{ url: new URL(`${sequence}.nii`, base).href, name: `${sequence}.nii`, colormap: "gray", percentileFrac: 0.001 }]);
    view.setDrawColormap(RED);
    if (!(await view.loadDrawingFromUrl(new URL("mask.nii.gz", base).href))) throw new Error("The mask could not be loaded.");
    const largest = middle(view);
    if (largest) view.scene.crosshairPos = largest;
    view.drawScene();
  }
  views.t1ce.broadcastTo([views.flair], { "2d": true, "3d": false });
  views.flair.broadcastTo([views.t1ce], { "2d": true, "3d": false });
  Object.assign(state, { case: name, undo: [], changed: false, since: Date.now(), busy: false });
  at("case").textContent = name;
  at("flags").textContent = opened.flags.join("; ");
  arm();
  tell("");
}

// The middle of the mask, as a fraction of the volume, so that a case opens where the tumour is.
function middle(view) {
  const [, nx, ny, nz] = view.back.dimsRAS;
  let sum = [0, 0, 0], count = 0;
  view.drawBitmap.forEach((voxel, i) => {
    if (!voxel) return;
    sum = [sum[0] + (i % nx), sum[1] + (Math.floor(i / nx) % ny), sum[2] + Math.floor(i / (nx * ny))];
    count += 1;
  });
  return count ? [(sum[0] / count + 0.5) / nx, (sum[1] / count + 0.5) / ny, (sum[2] / count + 0.5) / nz] : null;
}

async function save() {
  if (!state.case) return;
  const bytes = await views.t1ce.saveImage({ filename: "", isSaveDrawing: true });
  await ask(`${encodeURIComponent(state.case)}/mask`, bytes);
  state.changed = false;
  tell("Saved");
}

function askAccept() {
  const dialog = at("ask-accept");
  dialog.querySelectorAll("[name=edit]").forEach((choice) => { choice.checked = false; });
  at("minutes").value = ((Date.now() - state.since) / 60000).toFixed(1);
  at("note").value = at("why").textContent = "";
  at("confirmed").checked = false;
  at("sides").hidden = true;
  dialog.showModal();
}

async function accept() {
  const edit = at("ask-accept").querySelector("[name=edit]:checked");
  if (!edit) { at("why").textContent = "Say how much you changed."; return; }
  try {
    await save();
    const entry = { edit: edit.value, minutes: Number(at("minutes").value), note: at("note").value, confirmed: at("confirmed").checked };
    await ask(`${encodeURIComponent(state.case)}/accept`, entry);
  } catch (error) {
    at("why").textContent = error.message;
    if (error.code === "mask-flipped") at("sides").hidden = false;
    return;
  }
  at("ask-accept").close();
  await next();
}

async function sendBack() {
  const out = at("ask-back").querySelector("[name=out]:checked").value === "yes";
  try {
    await save();
    await ask(`${encodeURIComponent(state.case)}/send-back`, { out, reason: at("reason").value });
  } catch (error) {
    at("why-back").textContent = error.message;
    return;
  }
  at("ask-back").close();
  if (out) return next();
  state.case = "";
  state.busy = true;
  at("case").textContent = "Sent back";
  tell("The case is back in the queue. Press N for the next one.");
}

const KEYS = {
  b: () => { state.tool = "brush"; arm(); },
  e: () => { state.tool = "erase"; arm(); },
  v: () => { state.tool = "view"; arm(); },
  f: () => { state.filled = !state.filled; arm(); },
  m: () => { state.shown = !state.shown; arm(); },
  "[": () => { state.size = Math.max(1, state.size - 1); arm(); },
  "]": () => { state.size = Math.min(25, state.size + 1); arm(); },
  u: undo,
  s: save,
  a: askAccept,
  x: () => { at("reason").value = at("why-back").textContent = ""; at("ask-back").showModal(); },
  n: next,
  ArrowUp: () => step(0, 0, 1), ArrowDown: () => step(0, 0, -1), PageUp: () => step(0, 0, 5), PageDown: () => step(0, 0, -5),
  ArrowLeft: () => step(-1, 0, 0), ArrowRight: () => step(1, 0, 0),
};
const ALWAYS = new Set(["n"]);

function step(x, y, z) { views.t1ce.moveCrosshairInVox(x, y, z); }

async function press(key) {
  if ((state.busy || !state.case) && !ALWAYS.has(key)) return;
  try { await KEYS[key](); } catch (error) { tell(error.message); }
}

window.addEventListener("keydown", (event) => {
  const dialog = document.querySelector("dialog[open]");
  if (dialog) {
    const choices = dialog.querySelectorAll("[name=edit]");
    if (choices.length && ["1", "2", "3"].includes(event.key) && !["minutes", "note"].includes(event.target.id)) {
      choices[Number(event.key) - 1].checked = true;
      event.preventDefault();
    }
    return;
  }
  const key = (event.ctrlKey || event.metaKey) && event.key === "z" ? "u" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!(key in KEYS) || event.altKey || ((event.ctrlKey || event.metaKey) && key !== "u")) return;
  event.preventDefault();
  event.stopPropagation();
  press(key);
}, true);
document.querySelectorAll("[data-key]").forEach((button) => {
  button.addEventListener("click", () => { button.blur(); press(button.dataset.key); });
});
for (const [id, act] of [["ask-accept", accept], ["ask-back", sendBack]]) {
  at(id).querySelector("form").addEventListener("submit", (event) => {
    if (event.submitter?.value === "cancel") return;
    event.preventDefault();
    act();
  });
}
window.addEventListener("beforeunload", (event) => { if (state.changed) event.preventDefault(); });
setInterval(() => {
  if (!state.case) return;
  const seconds = Math.floor((Date.now() - state.since) / 1000);
  at("clock").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}, 1000);

try {
  for (const name of names) await make(name);
  await next();
} catch (error) {
  tell(error.message);
}
