import type { GrafanaTheme2 } from '@grafana/data';
import type { UPlotConfigBuilder } from '@grafana/ui';
import type uPlot from 'uplot';

import type { AnnotationEvent } from './document';

const FOOT_PX = 5;

const annotated = new WeakSet<UPlotConfigBuilder>();

/**
 * Dashed lines with a foot below the axis, or a pale band where an event lasts, as the time series panel draws them.
 * A chart is rendered more than once with one config; a second hook would draw every band twice.
 */
export function addAnnotations(config: UPlotConfigBuilder, events: AnnotationEvent[], theme: GrafanaTheme2): void {
  if (!annotated.has(config)) {
    annotated.add(config);
    config.addHook('draw', (plot: uPlot) => events.forEach((event) => drawEvent(plot, event, theme)));
  }
}

function drawEvent(plot: uPlot, event: AnnotationEvent, theme: GrafanaTheme2): void {
  const { left, top, width, height } = plot.bbox;
  const inside = (x: number) => Math.min(Math.max(x, left), left + width);
  const from = inside(plot.valToPos(event.from_ms, 'x', true));
  const to = inside(plot.valToPos(event.to_ms, 'x', true));
  const { ctx } = plot;
  ctx.save();
  ctx.fillStyle = ctx.strokeStyle = theme.visualization.getColorByName(event.color);
  if (to > from) {
    ctx.fillRect(from, top + height, to - from, FOOT_PX);
    ctx.globalAlpha = 0.1;
    ctx.fillRect(from, top, to - from, height);
    ctx.globalAlpha = 1;
  } else {
    drawFoot(ctx, from, top + height);
  }
  ctx.setLineDash([5, 5]);
  ctx.lineWidth = 2;
  new Set([from, to]).forEach((x) => drawLine(ctx, x, top, height));
  ctx.restore();
}

function drawLine(ctx: CanvasRenderingContext2D, x: number, top: number, height: number): void {
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, top + height);
  ctx.stroke();
}

function drawFoot(ctx: CanvasRenderingContext2D, x: number, bottom: number): void {
  ctx.beginPath();
  ctx.moveTo(x, bottom);
  ctx.lineTo(x - FOOT_PX, bottom + FOOT_PX);
  ctx.lineTo(x + FOOT_PX, bottom + FOOT_PX);
  ctx.fill();
}
