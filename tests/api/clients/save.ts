import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const [url, key] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });
const { data, error } = await client.POST("/api/v1/templates", {
  body: {
    name: "Saved by TypeScript",
    description: "Answers questions about invoices.",
    status: "active",
    prompt: "You are billing.",
    greeting: { text: "Hello." },
  },
});
if (error !== undefined) throw new Error(JSON.stringify(error));
const id: string = data.id;
console.log(id, data.revision);
