"use strict";
// Shows the charts and tables of the reader's choices; these are kept in the address, so that a view can be shared.
// Without this script everything is shown, one below the other.
const choices = [...document.querySelectorAll(".controls select")];
const places = [...document.querySelectorAll(choices.map((each) => `[data-${each.name}]`).join(",") || "none")];
function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const each of choices) if ([...each.options].some((option) => option.value === kept.get(each.name))) each.value = kept.get(each.name);
  show();
}
function show() {
  for (const place of places) place.hidden = choices.some((each) => each.name in place.dataset && place.dataset[each.name] !== each.value);
  const drawn = [...document.querySelectorAll("svg.chart[role=img]")].filter((chart) => chart.getClientRects().length > 0);
  document.documentElement.dataset.drawn = drawn.length > 0;
  document.documentElement.dataset.charts = drawn.length;
}
for (const each of choices) each.addEventListener("change", () => {
  show();
  location.replace("#" + new URLSearchParams(choices.map((one) => [one.name, one.value])));
});
addEventListener("hashchange", recall);
recall();
