import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import '@fontsource/roboto-mono/400.css';
import { createTheme, type DataFrame, type GrafanaTheme2, ThemeContext } from '@grafana/data';
import { GlobalStyles } from '@grafana/ui';
import { createRoot } from 'react-dom/client';

import { Dashboard } from './Dashboard';
import type { PictureDocument } from './document';
import { framesOf } from './frames';
import { problem, report } from './report';
import { registerTransformers, transformed } from './transform';

/** Charts measure their labels when they are drawn and legends one frame later, so the report waits for both. */
const SETTLE_MS = 1500;

async function main(): Promise<void> {
  const document_ = (await (await fetch('data.json')).json()) as PictureDocument;
  registerTransformers();
  const frames = await panelFrames(document_);
  const theme = createTheme({ colors: { mode: 'dark' } });
  await loadFonts(theme);
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Dashboard document={document_} frames={frames} width_px={window.innerWidth} />
    </ThemeContext.Provider>
  );
}

async function panelFrames(document_: PictureDocument): Promise<Map<number, DataFrame[]>> {
  const frames = new Map<number, DataFrame[]>();
  for (const panel of document_.dashboard.panels) {
    const raw = framesOf(document_.results[panel.id] ?? []);
    frames.set(panel.id, raw.length ? await transformed(panel.transformations, raw) : []);
  }
  return frames;
}

/** A canvas does not wait for fonts by itself: axis labels would be drawn in a substitute. */
async function loadFonts(theme: GrafanaTheme2): Promise<void> {
  const sizes = ['400 12px Inter', '500 14px Inter', '400 12px "Roboto Mono"'];
  document.body.style.background = theme.colors.background.canvas;
  await Promise.all(sizes.map((font) => document.fonts.load(font)));
}

window.addEventListener('error', (event) => problem(event.message));
window.addEventListener('unhandledrejection', (event) => problem(String(event.reason)));
main()
  .catch((error: Error) => problem(error.message))
  .finally(() => setTimeout(report, SETTLE_MS));
