// Pictures of a product in its shop: what is there, and adding more. A shop fetches and processes what is added by
// itself; each picture is UPLOADED, PROCESSING, then READY or FAILED. Source:
// https://shopify.dev/docs/api/admin-graphql/latest/mutations/productUpdate (media), .../enums/MediaStatus.

import { z } from "zod";
import type { ShopifyClient } from "../../_shared/shopify.ts";

const mediaNode = z.object({
  id: z.string(),
  alt: z.string().nullable(),
  status: z.enum(["UPLOADED", "PROCESSING", "READY", "FAILED"]),
  mediaErrors: z.array(z.object({ message: z.string() })),
  image: z.object({ url: z.string() }).nullish(),
});
export type ShopMedia = z.infer<typeof mediaNode>;

const mediaQuery = {
  text: `query ProductMedia($id: ID!, $after: String) {
    product(id: $id) {
      media(first: 25, after: $after) {
        nodes { id alt status mediaErrors { message } ... on MediaImage { image { url } } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }`,
  shape: z.object({
    product: z
      .object({
        media: z.object({
          nodes: z.array(mediaNode),
          pageInfo: z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() }),
        }),
      })
      .nullable(),
  }),
};

const addMutation = {
  text: `mutation AddMedia($product: ProductUpdateInput!, $media: [CreateMediaInput!]) {
    productUpdate(product: $product, media: $media) { product { id } userErrors { field message } }
  }`,
  shape: z.object({
    productUpdate: z.object({
      product: z.object({ id: z.string() }).nullable(),
      userErrors: z.array(z.object({ field: z.array(z.string()).nullable(), message: z.string() })),
    }),
  }),
};

const productGid = (id: string) => `gid://shopify/Product/${id}`;

/** All media of a product; null when the shop has the product no longer. Errors: ShopifyError. */
export async function readMedia(client: ShopifyClient, productId: string): Promise<ShopMedia[] | null> {
  const found: ShopMedia[] = [];
  let after: string | null = null;
  do {
    const variables = { id: productGid(productId), after };
    const answer: { data: z.infer<typeof mediaQuery.shape> } = await client.query(
      mediaQuery.text,
      variables,
      mediaQuery.shape,
    );
    if (!answer.data.product) return null;
    const { nodes, pageInfo } = answer.data.product.media;
    found.push(...nodes);
    after = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  } while (after !== null);
  return found;
}

/** Adds pictures at the end of a product's media; answers what the shop says against it. Errors: ShopifyError. */
export async function addPictures(
  client: ShopifyClient,
  productId: string,
  pictures: { url: string; alt: string }[],
): Promise<string[]> {
  const media = pictures.map(({ url, alt }) => ({ originalSource: url, alt, mediaContentType: "IMAGE" }));
  const variables = { product: { id: productGid(productId) }, media };
  const { data } = await client.query(addMutation.text, variables, addMutation.shape);
  return data.productUpdate.userErrors.map(({ message }) => message);
}
