import { describe, expect, it } from "vitest";
import { fromProviderList, toProviderList, variablesOf, withExamples } from "../src/templates/components";
import { type FillableTemplate, fillTemplate, toProviderParameters } from "../src/templates/fill";
import { categoryOf, statusOf } from "../src/templates/states";

function template(components: Record<string, unknown>, extra: Partial<FillableTemplate> = {}): FillableTemplate {
  return { category: "UTILITY", parameterFormat: "POSITIONAL", components, ...extra };
}

/** The provider's array of a good send. */
function filled(of: FillableTemplate, components: unknown): Record<string, unknown>[] {
  const filling = fillTemplate(of, components);
  if (!filling.ok) throw new Error(`${filling.field.join(".")}: ${filling.msg}`);
  return toProviderParameters(filling.filled);
}

/** Where a send goes wrong. */
function wrongAt(of: FillableTemplate, components: unknown): (string | number)[] {
  const filling = fillTemplate(of, components);
  if (filling.ok) throw new Error("The parameters fit");
  expect(filling.msg).not.toBe("");
  return filling.field;
}

const text = (value: string, name?: string) =>
  name === undefined ? { type: "text", text: value } : { type: "text", text: value, parameter_name: name };
const bodyOf = (...parameters: unknown[]) => ({ type: "body", parameters });

const greeting = template({ body: { text: "Hello {{1}}, order {{2}} is ready." } });
const named = template({ body: { text: "Hi {{name}}, order {{order}}." } }, { parameterFormat: "NAMED" });

describe("body parameters", () => {
  it("in the documented form and in the provider's are the same", () => {
    const wanted = [bodyOf(text("Ana"), text("A-1"))];
    expect(filled(greeting, { body: [text("Ana"), text("A-1")] })).toEqual(wanted);
    expect(filled(greeting, { body: { parameters: [text("Ana"), text("A-1")] } })).toEqual(wanted);
    expect(filled(greeting, { body: ["Ana", "A-1"] })).toEqual(wanted);
    expect(filled(greeting, [{ type: "BODY", parameters: [text("Ana"), text("A-1")] }])).toEqual(wanted);
    expect(filled(greeting, { body: { 2: "A-1", 1: "Ana" } })).toEqual(wanted);
    expect(filled(greeting, { body: [text("A-1", "2"), text("Ana", "1")] })).toEqual(wanted);
  });

  it("by name go where their variable stands; unnamed ones in the order of the text", () => {
    const wanted = [bodyOf(text("Ana", "name"), text("A-1", "order"))];
    expect(filled(named, { body: [text("A-1", "order"), text("Ana", "name")] })).toEqual(wanted);
    expect(filled(named, { body: { order: "A-1", name: "Ana" } })).toEqual(wanted);
    expect(filled(named, { body: [text("Ana"), text("A-1")] })).toEqual(wanted);
  });

  it("may be money and dates", () => {
    const money = { type: "currency", currency: { fallback_value: "$10", code: "USD", amount_1000: 10_000 } };
    const day = { type: "date_time", date_time: { fallback_value: "Monday" } };
    expect(filled(greeting, { body: [money, day] })).toEqual([bodyOf(money, day)]);
  });

  it.each<[string, FillableTemplate, unknown, (string | number)[]]>([
    ["too few", greeting, { body: [text("Ana")] }, ["body"]],
    ["none", greeting, undefined, []],
    ["none, by key", greeting, {}, ["body"]],
    ["too few, in an array", greeting, [bodyOf(text("Ana"))], [0, "parameters"]],
    ["too many", greeting, { body: ["a", "b", "c"] }, ["body", 2]],
    ["any for a fixed text", template({ body: { text: "Fixed" } }), { body: ["a"] }, ["body", 0]],
    ["an empty text", greeting, { body: [text(""), text("b")] }, ["body", 0, "text"]],
    ["an unknown type", greeting, { body: [{ type: "song" }, text("b")] }, ["body", 0, "type"]],
    [
      "media",
      greeting,
      { body: [{ type: "image", image: { link: "https://example.com/a.png" } }, "b"] },
      ["body", 0, "type"],
    ],
    ["an unknown name", named, { body: [text("a", "nam"), text("b", "order")] }, ["body", 0]],
    ["a name twice", named, { body: [text("a", "name"), text("b", "name")] }, ["body", 1]],
    ["a missing name", named, { body: [text("a", "name")] }, ["body"]],
    ["half of them named", named, { body: [text("a", "name"), text("b")] }, ["body", 1]],
    ["no list", greeting, { body: 7 }, ["body"]],
    ["an unknown part", greeting, { body: ["a", "b"], sidebar: [] }, ["sidebar"]],
    ["an unknown part, in an array", greeting, [bodyOf("a", "b"), { type: "sidebar" }], [1, "type"]],
    ["a part without type", greeting, [{ parameters: [] }], [0, "type"]],
    ["a part twice", greeting, [bodyOf("a", "b"), bodyOf("a", "b")], [1]],
    ["parameters of the footer", greeting, { body: ["a", "b"], footer: ["c"] }, ["footer"]],
    ["more than a message holds", greeting, { body: ["x".repeat(1000), "y".repeat(100)] }, ["body"]],
    ["no components at all", greeting, "body", []],
  ])("refuse %s, naming the place", (_, of, components, field) => {
    expect(wrongAt(of, components)).toEqual(field);
  });

  it("survive names that objects know already", () => {
    const odd = template({ body: { text: "{{constructor}} and {{__proto__}}." } }, { parameterFormat: "NAMED" });
    expect(wrongAt(odd, { body: {} })).toEqual(["body"]);
    const given = JSON.parse('{"body": {"constructor": "a", "__proto__": "b"}}');
    expect(filled(odd, given)).toEqual([bodyOf(text("a", "constructor"), text("b", "__proto__"))]);
  });
});

describe("header parameters", () => {
  const fixed = { body: { text: "Fixed" } };
  const withText = template({ header: { format: "TEXT", text: "Order {{1}}" }, ...fixed });
  const withImage = template({ header: { format: "IMAGE" }, ...fixed });
  const withPlace = template({ header: { format: "LOCATION" }, ...fixed });
  const link = "https://example.com/a.png";

  it("are one text, one file of the right kind, or one place", () => {
    expect(filled(withText, { header: ["A-1"] })).toEqual([{ type: "header", parameters: [text("A-1")] }]);
    for (const image of [{ link }, { id: "123" }, { media_id: "01900000-0000-7000-8000-000000000001" }]) {
      const wanted = [{ type: "header", parameters: [{ type: "image", image }] }];
      expect(filled(withImage, { header: [{ type: "image", image }] })).toEqual(wanted);
      expect(filled(withImage, { header: { type: "image", image } })).toEqual(wanted);
      expect(filled(withImage, { header: { image } })).toEqual(wanted);
      expect(filled(withImage, [{ type: "header", parameters: [{ type: "image", image }] }])).toEqual(wanted);
    }
    const document = { link, filename: "a.pdf" };
    const withDocument = template({ header: { format: "DOCUMENT" }, ...fixed });
    expect(filled(withDocument, { header: [{ type: "document", document }] })).toEqual([
      { type: "header", parameters: [{ type: "document", document }] },
    ]);
    const location = { latitude: 33.9, longitude: 35.6, name: "Jounieh" };
    expect(filled(withPlace, { header: [{ type: "location", location }] })).toEqual([
      { type: "header", parameters: [{ type: "location", location }] },
    ]);
    expect(filled(template(fixed), { header: [] })).toEqual([]);
  });

  it.each<[string, FillableTemplate, unknown, (string | number)[]]>([
    ["a missing picture", withImage, {}, ["header"]],
    ["a missing picture, in an array", withImage, [], []],
    ["a text for a picture", withImage, { header: ["A-1"] }, ["header", 0, "type"]],
    ["two pictures", withImage, { header: [{ image: { link } }, { image: { link } }] }, ["header", 1]],
    ["a picture without a source", withImage, { header: { image: {} } }, ["header", "image"]],
    ["a picture with two sources", withImage, { header: { image: { link, id: "1" } } }, ["header", "image"]],
    ["a script for a picture", withImage, { header: { image: { link: "javascript:1" } } }, ["header", "image", "link"]],
    [
      "a place that is none",
      withPlace,
      { header: { location: { latitude: 91, longitude: 0 } } },
      ["header", "location", "latitude"],
    ],
    ["anything for no header", template(fixed), { header: ["x"] }, ["header", 0]],
    ["nothing for a text", withText, {}, ["header"]],
  ])("refuse %s", (_, of, components, field) => {
    expect(wrongAt(of, components)).toEqual(field);
  });
});

describe("button parameters", () => {
  const shop = template({
    body: { text: "Fixed" },
    buttons: [
      { type: "QUICK_REPLY", text: "Yes" },
      { type: "URL", text: "Site", url: "https://example.com" },
      { type: "URL", text: "Track", url: "https://example.com/t/{{1}}" },
      { type: "COPY_CODE", text: "Copy" },
      { type: "PHONE_NUMBER", text: "Call", phone_number: "+1" },
      { type: "FLOW", text: "Form" },
    ],
  });
  const track = { type: "button", sub_type: "url", index: "2", parameters: [text("abc")] };
  const coupon = {
    type: "button",
    sub_type: "copy_code",
    index: "3",
    parameters: [{ type: "coupon_code", coupon_code: "SALE" }],
  };
  const yes = { type: "button", sub_type: "quick_reply", index: "0", parameters: [{ type: "payload", payload: "Y" }] };

  it("go to the button they name, or to the next one that takes their type", () => {
    expect(filled(shop, [track, coupon])).toEqual([track, coupon]);
    expect(filled(shop, [coupon, yes, { ...track, index: 2 }])).toEqual([yes, track, coupon]);
    const plain = [text("abc"), { type: "coupon_code", coupon_code: "SALE" }, { type: "payload", payload: "Y" }];
    expect(filled(shop, { buttons: plain })).toEqual([yes, track, coupon]);
    expect(
      filled(shop, {
        buttons: [
          { index: 2, parameters: ["abc"] },
          { sub_type: "COPY_CODE", parameters: coupon.parameters },
        ],
      }),
    ).toEqual([track, coupon]);
  });

  it.each<[string, unknown, (string | number)[]]>([
    ["a missing one", { buttons: [{ type: "coupon_code", coupon_code: "SALE" }] }, ["buttons"]],
    ["one too many", { buttons: ["a", "b", { type: "coupon_code", coupon_code: "SALE" }] }, ["buttons", 1]],
    ["a button that takes none", [{ ...track, index: 1 }, coupon], [0, "index"]],
    ["a button that is not there", [{ ...track, index: "9" }, coupon], [0, "index"]],
    ["no place at all", [{ ...track, index: "x" }, coupon], [0, "index"]],
    ["another kind of button", [{ ...track, sub_type: "quick_reply" }, coupon], [0, "sub_type"]],
    [
      "another type of parameter",
      [{ ...track, parameters: [{ type: "payload", payload: "x" }] }, coupon],
      [0, "parameters", 0, "type"],
    ],
    ["a button twice", [track, track, coupon], [1, "parameters", 0]],
    [
      "too long a code",
      [track, { ...coupon, parameters: [{ type: "coupon_code", coupon_code: "x".repeat(21) }] }],
      [1, "parameters", 0, "coupon_code"],
    ],
  ])("refuse %s", (_, components, field) => {
    expect(wrongAt(shop, components)).toEqual(field);
  });

  it("of authentication templates are the code, once more", () => {
    const button = (index: number) => ({
      type: "button",
      sub_type: "url",
      index: String(index),
      parameters: [text("4711")],
    });
    // As it is made here, and as the provider shows it after review.
    const made = { body: { add_security_recommendation: true }, buttons: [{ type: "OTP", otp_type: "COPY_CODE" }] };
    const shown = {
      body: { text: "*{{1}}* is your verification code." },
      buttons: [{ type: "URL", text: "Copy code", url: "https://www.whatsapp.com/otp/code/?code=otp{{1}}" }],
    };
    for (const components of [made, shown]) {
      const login = template(components, { category: "AUTHENTICATION" });
      expect(filled(login, { body: ["4711"] })).toEqual([bodyOf(text("4711")), button(0)]);
      expect(filled(login, { body: ["4711"], buttons: ["4711"] })).toEqual([bodyOf(text("4711")), button(0)]);
      expect(wrongAt(login, {})).toEqual(["body"]);
    }
  });
});

it("carousels and offers must be there, and go to the provider as they are", () => {
  const sale = template({ body: { text: "Sale" }, carousel: { cards: [{}] } });
  const cards = [{ card_index: 0, components: [] }];
  expect(filled(sale, [{ type: "CAROUSEL", cards }])).toEqual([{ type: "carousel", cards }]);
  expect(filled(sale, { carousel: { cards } })).toEqual([{ type: "carousel", cards }]);
  expect(wrongAt(sale, {})).toEqual([]);
});

describe("components", () => {
  it("are the same after going to the provider's list and back", () => {
    const components = {
      header: { format: "TEXT", text: "H" },
      body: { text: "B" },
      footer: { text: "F" },
      buttons: [{ type: "QUICK_REPLY", text: "Q" }],
      carousel: { cards: [{ components: [] }] },
    };
    const list = toProviderList({ ...components });
    expect(list.map(({ type }) => type)).toEqual(["HEADER", "BODY", "FOOTER", "BUTTONS", "CAROUSEL"]);
    expect(fromProviderList(list)).toEqual(components);
  });

  it("have their variables in order", () => {
    expect(variablesOf("{{10}} {{2}} {{ 1 }} {{2}}")).toEqual(["1", "2", "10"]);
    expect(variablesOf("{{b}} {{a}}")).toEqual(["b", "a"]);
    expect(variablesOf(null)).toEqual([]);
  });

  it("keep the examples that were given", () => {
    const components = {
      header: { format: "IMAGE", example: { header_handle: ["h"] } },
      body: { text: "A {{x}} and {{y}}.", example: { body_text_named_params: [{ param_name: "y", example: "why" }] } },
      buttons: [{ type: "URL", text: "T", url: "https://e.com/{{1}}", example: ["https://e.com/mine"] }],
    };
    expect(withExamples(components, "NAMED")).toEqual({
      ...components,
      body: {
        ...components.body,
        example: {
          body_text_named_params: [
            { param_name: "x", example: "x" },
            { param_name: "y", example: "why" },
          ],
        },
      },
    });
  });
});

it("the provider's words become the documented ones", () => {
  const states = {
    APPROVED: ["APPROVED", "REINSTATED", "FLAGGED", "LOCKED", "UNARCHIVED"],
    PENDING: ["PENDING", "IN_APPEAL", "PAUSED", "A_WORD_OF_TOMORROW"],
    REJECTED: ["REJECTED", "DISABLED", "DELETED", "PENDING_DELETION", "ARCHIVED", "LIMIT_EXCEEDED"],
  };
  for (const [status, words] of Object.entries(states)) {
    for (const word of words) expect(statusOf(word), word).toBe(status);
  }
  expect(categoryOf("UTILITY")).toBe("UTILITY");
  expect(categoryOf("OTP")).toBe("MARKETING");
});
