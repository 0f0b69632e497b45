import { type DataFrame, dateTime, dateTimeFormat, type GrafanaTheme2, type TimeRange } from '@grafana/data';
import { Icon, useTheme2 } from '@grafana/ui';
import type { CSSProperties } from 'react';

import type { PanelModel, PictureDocument } from './document';
import { boxOf, gridHeight_px } from './layout';
import { PanelView } from './PanelView';

const PADDING_PX = 16;

interface Props {
  document: PictureDocument;
  /** by panel id */
  frames: Map<number, DataFrame[]>;
  width_px: number;
}

export function Dashboard({ document, frames, width_px }: Props) {
  const theme = useTheme2();
  const { panels } = document.dashboard;
  const page: CSSProperties = {
    width: width_px,
    boxSizing: 'border-box',
    padding: PADDING_PX,
    background: theme.colors.background.canvas,
    color: theme.colors.text.primary,
  };
  return (
    <div style={page}>
      <Header document={document} />
      <div style={{ position: 'relative', height: gridHeight_px(panels) }}>
        {panels.map((panel) => (
          <Placed key={panel.id} panel={panel} document={document} frames={frames} width_px={width_px - 2 * PADDING_PX} />
        ))}
      </div>
    </div>
  );
}

function Placed({ panel, document, frames, width_px }: Props & { panel: PanelModel }) {
  const box = boxOf(panel.gridPos, width_px);
  return (
    <div style={{ position: 'absolute', ...box }}>
      {panel.type === 'row' ? (
        <Row panel={panel} />
      ) : (
        <PanelView
          panel={panel}
          frames={frames.get(panel.id) ?? []}
          timeRange={timeRangeOf(document)}
          timeZone={timeZoneOf(document)}
          annotations={document.annotations}
          width={box.width}
          height={box.height}
        />
      )}
    </div>
  );
}

function Row({ panel }: { panel: PanelModel }) {
  const theme = useTheme2();
  const hidden = panel.collapsed ? panel.panels?.length ?? 0 : 0;
  return (
    <div style={{ display: 'flex', alignItems: 'center', gap: 8, height: '100%' }}>
      <Icon name={panel.collapsed ? 'angle-right' : 'angle-down'} />
      <span style={{ fontSize: theme.typography.h5.fontSize, fontWeight: 500 }}>{panel.title}</span>
      {hidden > 0 && <span style={{ color: theme.colors.text.secondary }}>({hidden === 1 ? '1 panel' : `${hidden} panels`})</span>}
    </div>
  );
}

function Header({ document }: { document: PictureDocument }) {
  const theme = useTheme2();
  return (
    <div style={{ display: 'flex', flexDirection: 'column', height: 88 }}>
      <div style={{ display: 'flex', alignItems: 'center', height: 32, gap: 8 }}>
        <span style={{ color: theme.colors.text.secondary }}>Dashboards</span>
        <Icon name="angle-right" />
        <span style={{ fontWeight: 500 }}>{document.dashboard.title}</span>
      </div>
      <div style={{ display: 'flex', alignItems: 'center', gap: 8, height: 40, marginTop: 4 }}>
        {document.variables.map((variable) => (
          <Variable key={variable.label} {...variable} />
        ))}
        <span style={{ flexGrow: 1 }} />
        <div style={{ ...boxStyle(theme), gap: 8 }}>
          <Icon name="clock-nine" />
          {timeText(document)}
        </div>
      </div>
    </div>
  );
}

function Variable({ label, value }: { label: string; value: string }) {
  const theme = useTheme2();
  return (
    <div style={{ display: 'flex' }}>
      <div style={{ ...boxStyle(theme), fontWeight: 500, fontSize: theme.typography.bodySmall.fontSize }}>{label}</div>
      <div style={{ ...boxStyle(theme), background: theme.components.input.background, marginLeft: -1, gap: 16 }}>
        {value}
        <Icon name="angle-down" />
      </div>
    </div>
  );
}

function boxStyle(theme: GrafanaTheme2): CSSProperties {
  return {
    display: 'flex',
    alignItems: 'center',
    height: 32,
    boxSizing: 'border-box',
    padding: '0 8px',
    whiteSpace: 'nowrap',
    background: theme.colors.background.primary,
    border: `1px solid ${theme.components.input.borderColor}`,
    borderRadius: theme.shape.radius.default,
  };
}

function timeZoneOf(document: PictureDocument): string {
  return document.dashboard.timezone || 'browser';
}

function timeRangeOf({ range }: PictureDocument): TimeRange {
  const from = dateTime(range.from_ms);
  const to = dateTime(range.to_ms);
  return { from, to, raw: { from, to } };
}

function timeText(document: PictureDocument): string {
  const text = (time_ms: number) => dateTimeFormat(time_ms, { timeZone: timeZoneOf(document) });
  return `${text(document.range.from_ms)} to ${text(document.range.to_ms)}`;
}
