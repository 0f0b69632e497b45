import { createDataFrame, type DataFrame, type Field, FieldType, renderLegendFormat } from '@grafana/data';

import type { TargetResult } from './document';

/** Prometheus' answers as the frames that Grafana's Prometheus data source would hand to the panel. */
export function framesOf(results: TargetResult[]): DataFrame[] {
  return results.flatMap((result) =>
    result.format === 'table' ? tableFrame(result, results.length > 1) : result.series.map((s) => seriesFrame(result, s))
  );
}

function seriesFrame(result: TargetResult, series: TargetResult['series'][number]): DataFrame {
  const { __name__, ...labels } = series.labels;
  return createDataFrame({
    refId: result.refId,
    meta: { type: 'timeseries-multi' as any },
    fields: [
      timeField(series.points.map(([time]) => time * 1000), result.step_ms),
      {
        name: 'Value',
        type: FieldType.number,
        labels,
        config: { displayNameFromDS: seriesName(result, series.labels) },
        values: series.points.map(([, value]) => sampleValue(value)),
      },
    ],
  });
}

/** undefined lets Grafana build the name from the labels that differ, as it does for the legend "Auto". */
function seriesName(result: TargetResult, labels: Record<string, string>): string | undefined {
  const automatic = result.legend === '' || result.legend === '__auto';
  if (!automatic) {
    return renderLegendFormat(result.legend, labels);
  }
  return Object.keys(labels).length ? undefined : result.expr;
}

function tableFrame(result: TargetResult, severalTargets: boolean): DataFrame[] {
  const rows = result.series.flatMap((s) => s.points.map((point) => ({ labels: s.labels, point })));
  if (rows.length === 0) {
    return [];
  }
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.labels)))].sort();
  const labelFields = names.map((name) => ({
    name,
    type: FieldType.string,
    config: { filterable: true },
    values: rows.map((row) => row.labels[name] ?? ''),
  }));
  const value = {
    name: severalTargets ? `Value #${result.refId}` : 'Value',
    type: FieldType.number,
    config: {},
    values: rows.map((row) => sampleValue(row.point[1])),
  };
  const time = timeField(rows.map((row) => row.point[0] * 1000), 0);
  return [createDataFrame({ refId: result.refId, fields: [time, ...labelFields, value] })];
}

/** The step lets the graph break a line where samples are missing. */
function timeField(values: number[], step_ms: number): Field {
  return { name: 'Time', type: FieldType.time, config: step_ms > 0 ? { interval: step_ms } : {}, values };
}

function sampleValue(text: string): number {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
}
