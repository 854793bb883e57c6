// The answers of a saved page: states that were priced when it was written, in parts that are opened when needed.
"use strict";
globalThis.savedAnswers = (() => {
const saved = JSON.parse(document.getElementById("saved").textContent);
document.getElementById("about").textContent = saved.about;
const places = new Map();
async function opened(name) {  // a part of the saved page: gzip in base64, opened once it is needed
  if (!globalThis.DecompressionStream) throw new Error("This browser is too old for a saved page: it has no DecompressionStream.");
  if (!places.has(name)) {
    const packed = Uint8Array.from(atob(document.getElementById(name).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    places.set(name, await new Response(stream).json());
  }
  return places.get(name);
}
function states(query) {
  const name = saved.views.some((each) => each.name === query.get("view")) ? query.get("view") : saved.views[0].name;
  const controls = saved.controls[name], state = {};
  for (const each of controls) {
    const given = query.get(each.name);
    const kept = each.values?.find((value) => `${value ?? ""}` === given);
    state[each.name] = kept === undefined ? each.now : kept;
  }
  const clean = new URLSearchParams({ view: name });
  for (const each of controls) if (each.values) clean.set(each.name, state[each.name] ?? "");
  return { state: { ...state, view: name }, query: `${clean}`, views: saved.views, controls };
}
async function view(query) {
  const { state, query: clean, controls } = states(query);
  const axes = controls.filter((each) => each.values);
  const place = axes.reduce((sum, each) => sum * each.values.length + each.values.indexOf(state[each.name]), 0);
  const [part, row] = saved.places[state.view][place];
  const answer = (await opened(part))[row];
  if (answer.error) throw new Error(answer.error);
  return { ...answer, sources: (await opened("part-sources"))[answer.sources], state, query: clean };
}
return { states, view };
})();
