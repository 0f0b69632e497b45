import {
  type DisplayValue,
  type DisplayValueAlignmentFactors,
  type FieldDisplay,
  getDisplayValueAlignmentFactors,
} from '@grafana/data';
import { BarGauge, useTheme2, VizRepeater, type VizRepeaterRenderValueProps } from '@grafana/ui';

import { displayValues } from './displayValues';
import type { PanelProps } from './props';

const DEFAULTS = {
  displayMode: 'gradient',
  showUnfilled: true,
  valueMode: 'color',
  namePlacement: 'auto',
  orientation: 'auto',
  minVizWidth: 8,
  minVizHeight: 16,
  maxVizHeight: 300,
};

type Cell = VizRepeaterRenderValueProps<FieldDisplay, DisplayValueAlignmentFactors>;

export function BarGaugePanel(props: PanelProps) {
  const theme = useTheme2();
  const options: any = { ...DEFAULTS, ...props.panel.options };
  const lcd = options.displayMode === 'lcd';
  const renderValue = ({ value, width, height, count, orientation, alignmentFactors }: Cell) => (
    <BarGauge
      value={withoutLoneName(value, count)}
      field={value.field}
      display={value.view && value.colIndex !== undefined ? value.view.getFieldDisplayProcessor(value.colIndex) : undefined}
      orientation={orientation}
      displayMode={options.displayMode}
      showUnfilled={options.showUnfilled}
      valueDisplayMode={options.valueMode}
      namePlacement={options.namePlacement}
      text={options.text}
      alignmentFactors={count > 1 ? alignmentFactors : undefined}
      itemSpacing={lcd ? 2 : 10}
      lcdCellWidth={12}
      isOverflow={false}
      width={width}
      height={height}
      theme={theme}
    />
  );
  return (
    <VizRepeater
      getValues={() => displayValues(props, theme, false)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={renderValue}
      width={props.width}
      height={props.height}
      minVizWidth={options.minVizWidth}
      minVizHeight={options.minVizHeight}
      maxVizHeight={options.maxVizHeight}
      source={props.frames}
      itemSpacing={lcd ? 2 : 10}
      renderCounter={1}
      orientation={options.orientation}
    />
  );
}

/** A single bar carries no name unless the dashboard gives one, as in Grafana. */
function withoutLoneName(value: FieldDisplay, count: number): DisplayValue {
  return count === 1 && !value.field.displayName ? { ...value.display, title: undefined } : value.display;
}
