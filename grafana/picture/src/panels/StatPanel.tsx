import { type DisplayValueAlignmentFactors, type FieldDisplay, getDisplayValueAlignmentFactors } from '@grafana/data';
import { BigValue, BigValueTextMode, useTheme2, VizRepeater, type VizRepeaterRenderValueProps } from '@grafana/ui';

import { displayValues } from './displayValues';
import type { PanelProps } from './props';

const DEFAULTS = {
  graphMode: 'area',
  colorMode: 'value',
  justifyMode: 'auto',
  textMode: 'auto',
  wideLayout: true,
  orientation: 'auto',
};

type Cell = VizRepeaterRenderValueProps<FieldDisplay, DisplayValueAlignmentFactors>;

export function StatPanel(props: PanelProps) {
  const theme = useTheme2();
  const options: any = { ...DEFAULTS, ...props.panel.options };
  const named = options.textMode === 'auto' && props.fieldConfig.defaults.displayName;
  const renderValue = ({ value, width, height, count, alignmentFactors }: Cell) => (
    <BigValue
      value={value.display}
      count={count}
      sparkline={value.sparkline && { ...value.sparkline, timeRange: props.timeRange }}
      colorMode={options.colorMode}
      graphMode={options.graphMode}
      justifyMode={options.justifyMode}
      textMode={named ? BigValueTextMode.ValueAndName : options.textMode}
      alignmentFactors={alignmentFactors}
      text={options.text}
      disableWideLayout={!options.wideLayout}
      width={width}
      height={height}
      theme={theme}
    />
  );
  return (
    <VizRepeater
      getValues={() => displayValues(props, theme, options.graphMode !== 'none')}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={renderValue}
      width={props.width}
      height={props.height}
      source={props.frames}
      itemSpacing={3}
      renderCounter={1}
      autoGrid
      orientation={options.orientation}
    />
  );
}
