import { type DataFrame, FieldType } from '@grafana/data';
import { TimeSeries, useTheme2 } from '@grafana/ui';

import { addAnnotations } from '../annotations';
import type { PanelProps } from './props';

const LEGEND_DEFAULTS = { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] };

export function TimeSeriesPanel({ panel, frames, timeRange, timeZone, annotations, width, height }: PanelProps) {
  const theme = useTheme2();
  return (
    <TimeSeries
      frames={frames.map(graphable)}
      structureRev={1}
      timeRange={timeRange}
      timeZone={timeZone}
      width={width}
      height={height}
      legend={{ ...LEGEND_DEFAULTS, ...panel.options?.legend }}
      options={panel.options}
    >
      {(config) => {
        addAnnotations(config, annotations, theme);
        return null;
      }}
    </TimeSeries>
  );
}

/** A line cannot pass through NaN or infinity: those become gaps. */
function graphable(frame: DataFrame): DataFrame {
  const fields = frame.fields.map((field) =>
    field.type === FieldType.number ? { ...field, values: field.values.map((v) => (Number.isFinite(v) ? v : null)) } : field
  );
  return { ...frame, fields };
}
