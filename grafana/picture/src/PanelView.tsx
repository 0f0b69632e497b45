import { type DataFrame, FieldType } from '@grafana/data';
import { PanelChrome, useTheme2 } from '@grafana/ui';
import { Component, type ComponentType, type ReactNode } from 'react';

import type { PanelModel } from './document';
import { configuredFrames, GRAPH_DEFAULTS, PLAIN_DEFAULTS, withDefaults } from './fieldConfig';
import { BarGaugePanel } from './panels/BarGaugePanel';
import type { PanelProps } from './panels/props';
import { StatPanel } from './panels/StatPanel';
import { TablePanel } from './panels/TablePanel';
import { TimeSeriesPanel } from './panels/TimeSeriesPanel';
import { problem } from './report';

const KINDS: Record<string, ComponentType<PanelProps>> = {
  timeseries: TimeSeriesPanel,
  stat: StatPanel,
  bargauge: BarGaugePanel,
  table: TablePanel,
};

/** frames: transformed, not yet configured. */
export type PanelViewProps = Omit<PanelProps, 'fieldConfig'>;

export function PanelView(props: PanelViewProps) {
  const { panel, width, height } = props;
  return (
    <PanelChrome
      title={panel.title}
      description={panel.description}
      displayMode={panel.transparent ? 'transparent' : 'default'}
      padding={panel.type === 'table' ? 'none' : 'md'}
      width={width}
      height={height}
    >
      {(innerWidth, innerHeight) => (
        <Guard panel={panel}>
          <Body {...props} width={innerWidth} height={innerHeight} />
        </Guard>
      )}
    </PanelChrome>
  );
}

function Body(props: PanelViewProps) {
  const theme = useTheme2();
  const Kind = KINDS[props.panel.type];
  if (!hasData(props.frames)) {
    return <NoData height={props.height} text={props.panel.fieldConfig?.defaults.noValue} />;
  }
  const defaults = props.panel.type === 'timeseries' ? GRAPH_DEFAULTS : PLAIN_DEFAULTS;
  const source = props.panel.fieldConfig ?? { defaults: {}, overrides: [] };
  const frames = configuredFrames(props.frames, source, defaults, theme, props.timeZone);
  return <Kind {...props} frames={frames} fieldConfig={withDefaults(source, defaults)} />;
}

function hasData(frames: DataFrame[]): boolean {
  return frames.some((frame) => frame.length > 0 && frame.fields.some((field) => field.type !== FieldType.time));
}

function NoData({ height, text = 'No data' }: { height: number; text?: string }) {
  return <div style={{ height, display: 'flex', alignItems: 'center', justifyContent: 'center' }}>{text}</div>;
}

/** A panel that cannot be drawn fails the picture instead of leaving a hole in it. */
class Guard extends Component<{ panel: PanelModel; children: ReactNode }, { failed: boolean }> {
  state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  componentDidCatch(error: Error) {
    problem(`panel '${this.props.panel.title}': ${error.message}`);
  }

  render() {
    return this.state.failed ? null : this.props.children;
  }
}
