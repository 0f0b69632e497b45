import { Table } from '@grafana/ui';

import type { PanelProps } from './props';

export function TablePanel({ panel, frames, fieldConfig, timeRange, width, height }: PanelProps) {
  return (
    <Table
      data={frames[0]}
      width={width}
      height={height}
      initialSortBy={panel.options?.sortBy}
      cellHeight={panel.options?.cellHeight}
      noHeader={panel.options?.showHeader === false}
      fieldConfig={fieldConfig}
      timeRange={timeRange}
      resizable={false}
    />
  );
}
