import {
  type DataFrame,
  type DataTransformerConfig,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { firstValueFrom } from 'rxjs';

/** To be called once, before any panel is transformed. */
export function registerTransformers(): void {
  // some are listed under an old name too
  const byId = new Map(Object.values(standardTransformers).map((transformation) => [transformation.id, transformation]));
  standardTransformersRegistry.setInit(() => [...byId.values()].map(registered));
}

function registered(transformation: (typeof standardTransformers)[keyof typeof standardTransformers]): any {
  return { id: transformation.id, name: transformation.name, transformation, editor: () => null, imageDark: '', imageLight: '' };
}

export async function transformed(steps: DataTransformerConfig[] | undefined, frames: DataFrame[]): Promise<DataFrame[]> {
  const active = (steps ?? []).filter((step) => !step.disabled);
  for (const step of active) {
    if (!standardTransformersRegistry.getIfExists(step.id)) {
      throw new Error(`transformation '${step.id}' is not known`);
    }
  }
  return active.length ? firstValueFrom(transformDataFrame(active, frames)) : frames;
}
