/** Templates are kept as Meta's components; Infobip shows and takes one `structure`. */
type Json = Record<string, unknown>;

function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

export function structureOf(components: readonly Json[]): Json {
  const structure: Json = { type: "TEXT" };
  for (const component of components) {
    const example = object(component.example);
    switch (component.type) {
      case "HEADER": {
        const sample = list(example.header_text)[0] ?? list(example.header_handle)[0];
        const { format = "TEXT", text } = component;
        structure.header = { format, ...(text ? { text } : {}), ...(sample ? { example: sample } : {}) };
        break;
      }
      case "BODY": {
        const samples = list(list(example.body_text)[0]);
        structure.body = { text: component.text, ...(samples.length > 0 ? { examples: samples } : {}) };
        break;
      }
      case "FOOTER":
        structure.footer = { text: component.text };
        break;
      case "BUTTONS":
        structure.buttons = list(component.buttons).map((button) => {
          const { phone_number: phoneNumber, example: sample, ...rest } = object(button);
          const first = Array.isArray(sample) ? sample[0] : sample;
          return { ...rest, ...(phoneNumber ? { phoneNumber } : {}), ...(first ? { example: first } : {}) };
        });
        break;
    }
  }
  return structure;
}

export function componentsOf(structure: Json): Json[] {
  const header = object(structure.header);
  const body = object(structure.body);
  const footer = object(structure.footer);
  const buttons = list(structure.buttons);
  const isText = (header.format ?? "TEXT") === "TEXT";
  const samples = list(body.examples);
  return [
    ...(structure.header === undefined
      ? []
      : [
          {
            type: "HEADER",
            format: header.format ?? "TEXT",
            ...(header.text === undefined ? {} : { text: header.text }),
            ...(header.example === undefined
              ? {}
              : { example: isText ? { header_text: [header.example] } : { header_handle: [header.example] } }),
          },
        ]),
    { type: "BODY", text: body.text, ...(samples.length > 0 ? { example: { body_text: [samples] } } : {}) },
    ...(structure.footer === undefined ? [] : [{ type: "FOOTER", text: footer.text }]),
    ...(buttons.length === 0
      ? []
      : [
          {
            type: "BUTTONS",
            buttons: buttons.map((button) => {
              const { phoneNumber, example, ...rest } = object(button);
              return {
                ...rest,
                ...(phoneNumber === undefined ? {} : { phone_number: phoneNumber }),
                ...(example === undefined ? {} : { example: [example] }),
              };
            }),
          },
        ]),
  ];
}
