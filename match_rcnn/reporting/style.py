"""The style sheet of the pages: light and dark, wide and narrow."""

STYLE = """\
:root {
  --paper: #fff; --ink: #1d2330; --quiet: #5b6475; --line: #dfe3ea; --soft: #f4f6f9;
  --s1: #2a6fd6; --s2: #d9601a; --s3: #14885c; --s4: #6a4bc4; --heat: #1d4fa0;
  --right: #14885c; --wrong: #c2383a; color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171d; --ink: #e8ebf1; --quiet: #9aa4b5; --line: #303744; --soft: #1c2129;
    --s1: #6ea8ff; --s2: #f09a5b; --s3: #4cc79a; --s4: #b09bf5; --heat: #7fb0ff;
    --right: #4cc79a; --wrong: #f0787a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 82rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .4rem; padding-top: .8rem; border-top: 1px solid
  var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
p { margin: .3rem 0 .9rem; max-width: 46rem; }
a { color: var(--s1); }
.lead, .note, figcaption { color: var(--quiet); }
.note { font-size: .875rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; padding: 0; margin: 1rem 0 0;
  list-style: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .4rem 0;
  font-size: .94rem; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
.row > * { min-width: 0; max-width: 100%; }
.figures { flex: 1 1 24rem; margin-top: .6rem; }
.figures:has(> .grid > :nth-child(2)) { flex-basis: 100%; }
.facts { display: grid; gap: 0 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%,
  20rem), 1fr)); }
.figures > h3:first-child { margin-top: 0; }
details { margin-top: 1rem; font-size: .94rem; } summary { cursor: pointer; color: var(--quiet); }
details h3 { display: none; } details .scroll { margin-top: .5rem; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .45rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { font-weight: 600; text-align: right; }
th[scope=colgroup] { text-align: center; border-left: 1px solid var(--line); }
tbody th { text-align: left; font-weight: 500; white-space: normal; max-width: 17rem; }
tbody th:nth-of-type(2):not(:only-of-type) { min-width: 11.5rem; }
tbody th:first-of-type, tbody th:nth-of-type(3) { white-space: nowrap; max-width: none; }
thead th.head { text-align: left; }
.after { border-left: 1px solid var(--line); }
thead tr:last-child th { white-space: normal; max-width: 6.5rem; overflow-wrap: break-word; }
tbody th:only-of-type { min-width: 8.5rem; }
thead th { vertical-align: bottom; color: var(--quiet); }
tr.quiet { background: var(--soft); color: var(--quiet); }
tr.quiet td { font-style: italic; }
tbody tr:hover { background: var(--soft); }
figure { margin: 0; }
figcaption { font-size: .875rem; margin-top: .3rem; }
.grid { display: grid; gap: 1.6rem; grid-template-columns: repeat(auto-fill, minmax(min(100%,
  25rem), 1fr)); }
.two { grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); }
.drawings { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(8.6rem,
  1fr)); margin-top: .6rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0; margin:
  .3rem 0; font-size: .875rem; }
.legend svg { width: 1.6rem; height: .75rem; margin-right: .4rem; vertical-align: -1px; }
svg { width: 100%; height: auto; display: block; overflow: visible; }
.legend svg { display: inline-block; }
svg text { font-size: 12.5px; fill: var(--ink); font-family: inherit; }
svg text.axis, svg text.value { fill: var(--quiet); }
svg text.cell { font-size: 10.5px; }
svg text.strong { fill: var(--paper); font-weight: 600; }
line.grid { stroke: var(--line); stroke-width: 1; }
.diagonal { stroke: var(--quiet); stroke-dasharray: 4 4; }
.span { stroke: var(--line); stroke-width: 3; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
.line.s1 { stroke: var(--s1); } .line.s2 { stroke: var(--s2); stroke-dasharray: 8 3; }
.line.s3 { stroke: var(--s3); stroke-dasharray: 2 3; } .line.s4 { stroke: var(--s4);
  stroke-dasharray: 9 3 2 3; }
.dot { stroke: var(--paper); stroke-width: 1.2; }
.dot.s1, rect.s1 { fill: var(--s1); } .dot.s2, rect.s2 { fill: var(--s2); }
.dot.s3, rect.s3 { fill: var(--s3); } .dot.s4, rect.s4 { fill: var(--s4); }
rect.quiet { fill: var(--quiet); opacity: .5; }
rect.empty { fill: var(--soft); } .heat { fill: var(--heat); } .paper { fill: var(--paper); }
.outline { fill: none; stroke: var(--quiet); stroke-width: 1.2; opacity: .55; stroke-linejoin:
  round; }
.hollow { fill: var(--paper); stroke: var(--quiet); }
.photos { display: grid; gap: 1.2rem; }
.photos > div { display: grid; gap: .6rem; grid-auto-flow: column; grid-auto-columns:
  minmax(8.5rem, 17rem); justify-content: start; align-items: start; overflow-x: auto; }
.photos img { width: 100%; height: auto; border-radius: 4px; display: block; }
.pairs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
.retrieved { display: grid; grid-template-columns: repeat(6, minmax(0, 7.5rem)); gap: .5rem;
  align-items: start; margin-bottom: 1rem; }
.retrieved figure { text-align: center; }
.retrieved img { width: 100%; aspect-ratio: 3 / 4; object-fit: contain; background: var(--soft);
  border: 3px solid transparent; border-radius: 4px; display: block; }
.retrieved .right img { border-color: var(--right); } .retrieved .right figcaption { color:
  var(--right); font-weight: 600; }
.retrieved .query img { border-color: var(--ink); }
.retrieved figcaption { font-size: .75rem; line-height: 1.3; }
@media (max-width: 40rem) {
  body { padding: 1rem .8rem 3rem; }
  table { font-size: .8rem; } th, td { padding: .25rem .4rem; }
  tbody th { max-width: 8.2rem; } tbody th:nth-of-type(2):not(:only-of-type) { min-width: 7rem; }
  tbody th:first-of-type { white-space: normal; max-width: 8.2rem; overflow-wrap: break-word; }
  .retrieved { gap: .25rem; } .retrieved figcaption { font-size: .62rem; }
}
@media print { nav { display: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid;
  } }
"""
