import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";

const providerSchema = z.enum(["Email", "Google", "GitHub"]);
export type SignInProvider = z.infer<typeof providerSchema>;
export type SocialProvider = Exclude<SignInProvider, "Email">;

export const providerQuery = z.object({ provider: providerSchema.default("Email") });

/** RFC 5321: an address has at most 254 characters. Compared and stored in lower case. */
export const emailSchema = z
  .string({ error: "Invalid email format" })
  .trim()
  .max(254, "Invalid email format")
  .toLowerCase()
  .pipe(z.email("Invalid email format"))
  .openapi({ type: "string", format: "email", example: "user@example.com" });

/** Bounds what is hashed; a sign-in is not told the rules of a sign-up. */
const MAX_PASSWORD = 256;
const password = z.string().max(MAX_PASSWORD, `Password must have at most ${MAX_PASSWORD} characters`);
const newPassword = password.min(8, "Password must have at least 8 characters");
const name = z.string().trim().min(1).max(200);
const invitationToken = z
  .string()
  .max(200)
  .openapi({ description: "Of an `invitation_url`; needed where sign-up is by invitation." });

/**
 * What each provider's form of a call takes. The document's body is one object whose provider stands in the query, so the
 * wire schema names all members and `auth/routes` parses the one that applies.
 */
export const emailSignUp = z.object({
  email: emailSchema,
  password: newPassword,
  name: name.nullish(),
  invitation_token: invitationToken.nullish(),
});
export const emailSignIn = z.object({
  email: emailSchema,
  password,
  workspace_id: uuidSchema.nullish(),
});
const social = { workspace_id: uuidSchema.nullish(), invitation_token: invitationToken.nullish() };
export const googleSignIn = z.object({ id_token: z.string().min(1).max(8192), ...social });
export const githubSignIn = z.object({ code: z.string().min(1).max(512), ...social });

const socialMembers = {
  id_token: z.string().optional().openapi({ description: "`provider=Google`: the ID token of Google's sign-in." }),
  code: z.string().optional().openapi({ description: "`provider=GitHub`: the code of GitHub's redirect." }),
  invitation_token: z.string().nullish(),
};

export const signUpBody = z
  .object({
    email: z
      .string({ error: "Invalid email format" })
      .optional()
      .openapi({ format: "email", example: "user@example.com" }),
    password: z.string().optional().openapi({ minLength: 8, maxLength: MAX_PASSWORD, example: "SecurePassword123!" }),
    name: z.string().nullish().openapi({ example: "John Doe" }),
    ...socialMembers,
  })
  .openapi("SignUp");

export const signInBody = z
  .object({
    email: z
      .string({ error: "Invalid email format" })
      .optional()
      .openapi({ format: "email", example: "user@example.com" }),
    password: z.string().optional().openapi({ example: "SecurePassword123!" }),
    workspace_id: z.string().nullish().openapi({
      format: "uuid",
      description: "The workspace of calls that name none. Becomes a claim of the token.",
    }),
    ...socialMembers,
  })
  .openapi("SignIn");

export const signUpAnswer = z
  .object({ user_id: z.uuid(), name: z.string().nullable(), email: z.string() })
  .openapi("SignedUp");

const tokens = {
  access_token: z.string(),
  refresh_token: z.string(),
  token_type: z.literal("bearer"),
  expires_in: z.int().openapi({ description: "Seconds the access token lives.", example: 3600 }),
};

export const signInAnswer = z.object({ user_id: z.uuid(), ...tokens }).openapi("SignedIn");

export const refreshBody = z
  .object({
    refresh_token: z.string().min(1).max(200).optional().openapi({
      description: "Of the sign-in or of the refresh before. Without it, a valid access token in the header.",
    }),
  })
  .openapi("Refresh");

export const refreshAnswer = z.object(tokens).openapi("Refreshed");

export const userAnswer = z
  .object({ id: z.uuid(), email: z.string(), name: z.string().nullable(), email_verified: z.boolean() })
  .openapi("User");

export const verifyEmailBody = z.object({ token: z.string().min(1).max(2000) }).openapi("VerifyEmail");
