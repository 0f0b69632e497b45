"""How the page looks: on wide and narrow screens, light and dark, on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --soft: #5b5b5b; --line: #d5d5d5; --head: #f2f2f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #161616; --soft: #a6a6a6; --line: #3c3c3c; --head: #232323; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
a { color: inherit; } nav a { display: inline-block; margin-right: 1rem; }
figure { margin: 1.5rem 0; }
figure img { display: block; width: 100%; min-width: 42rem; max-width: 58rem;
  height: auto; background: #fff; border: 1px solid var(--line); }
figcaption, .note, footer { color: var(--soft); font-size: .9rem; max-width: 58rem; }
.wide { overflow-x: auto; margin-top: 1rem; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .45rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--head); white-space: normal; vertical-align: bottom; }
tbody th { font-weight: 500; min-width: 8.5rem; position: sticky; left: 0; background: var(--paper); }
.facts th, .facts td { white-space: normal; overflow-wrap: break-word; text-align: left; vertical-align: top; }
.facts th { position: static; min-width: 7rem; max-width: 22rem; }
.worded th, .worded td { text-align: left; } .worded tbody th[scope="row"] { font-weight: 400; }
.many { font-size: .72rem; } .many th, .many td { padding: .2rem .35rem; }
.lead { max-width: 58rem; }
.section th { background: var(--head); text-align: left; position: static; } .section span { position: sticky; left: .6rem; }
details { margin-top: 1rem; } summary { cursor: pointer; font-size: .9rem; }
.matrix { font-size: .72rem; } .matrix th, .matrix td { padding: .15rem .25rem; text-align: center; }
.matrix thead th { height: 11.5rem; padding-bottom: .4rem; } .matrix thead th:first-child { height: auto; }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.matrix tbody th { text-align: left; min-width: 9rem; } .matrix .apart { border-left: 3px double var(--soft); }
.matrix .total th, .matrix .total td { border-top: 1px solid var(--soft); font-weight: 600; }
.matrix .best { font-weight: 700; outline: 2px solid #0072B2; outline-offset: -2px; }
.heat0 { background: #ffffff; color: #111; } .heat1 { background: #e3edf6; color: #111; } .heat2 { background: #c3d7ea; color: #111; }
.heat3 { background: #9bbedb; color: #111; } .heat4 { background: #5f94c2; color: #000; } .heat5 { background: #2c659c; color: #fff; }
.heat6 { background: #10365f; color: #fff; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--head); padding: .6rem; border-radius: 4px; }
@media (max-width: 40rem) { .facts th, .facts td { display: block; border-bottom: 0; } .facts td { padding-left: 1.5rem; } }
@media print { .wide { overflow: visible; } }
"""
