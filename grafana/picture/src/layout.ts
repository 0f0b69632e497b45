import type { GridPos, PanelModel } from './document';

/** Grafana's grid: 24 columns, cells of 30 px height, gaps of 8 px. */
const COLUMNS = 24;
const CELL_HEIGHT_PX = 30;
const GAP_PX = 8;

export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

export function boxOf(grid: GridPos, width_px: number): Box {
  const column_px = (width_px - GAP_PX * (COLUMNS - 1)) / COLUMNS;
  return {
    left: Math.round(grid.x * (column_px + GAP_PX)),
    top: grid.y * (CELL_HEIGHT_PX + GAP_PX),
    width: Math.round(grid.w * (column_px + GAP_PX) - GAP_PX),
    height: grid.h * (CELL_HEIGHT_PX + GAP_PX) - GAP_PX,
  };
}

/** page.py computes the window's height from the same numbers. */
export function gridHeight_px(panels: PanelModel[]): number {
  return Math.max(0, ...panels.map(({ gridPos }) => (gridPos.y + gridPos.h) * (CELL_HEIGHT_PX + GAP_PX)));
}
