// What is asked of a shop, and the shapes of its answers. Page sizes keep every query under the limit of 1,000 points.

import { z } from "zod";

const pageInfo = z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() });
const page = <T extends z.ZodType>(node: T) => z.object({ nodes: z.array(node), pageInfo });

const variantFields = `legacyResourceId title sku barcode price compareAtPrice inventoryPolicy inventoryQuantity
  taxable position selectedOptions { name value } image { id url } createdAt updatedAt
  inventoryItem {
    legacyResourceId tracked requiresShipping unitCost { amount } measurement { weight { unit value } } updatedAt
  }`;

const variantNode = z.object({
  legacyResourceId: z.string(),
  title: z.string(),
  sku: z.string().nullable(),
  barcode: z.string().nullable(),
  price: z.string(),
  compareAtPrice: z.string().nullable(),
  inventoryPolicy: z.string(),
  inventoryQuantity: z.number().nullable(),
  taxable: z.boolean(),
  position: z.number(),
  selectedOptions: z.array(z.object({ name: z.string(), value: z.string() })),
  image: z.object({ id: z.string().nullable(), url: z.string() }).nullable(),
  createdAt: z.string(),
  updatedAt: z.string(),
  inventoryItem: z.object({
    legacyResourceId: z.string(),
    tracked: z.boolean(),
    requiresShipping: z.boolean(),
    unitCost: z.object({ amount: z.string() }).nullable(),
    measurement: z.object({ weight: z.object({ unit: z.string(), value: z.number() }).nullable() }),
    updatedAt: z.string(),
  }),
});
export type VariantNode = z.infer<typeof variantNode>;

const productFields = `legacyResourceId title descriptionHtml vendor productType handle status tags publishedAt
  createdAt updatedAt seo { title description } options { name position values }
  media(first: 10) { nodes { ... on MediaImage { image { url altText width height } } } }`;

const productNode = z.object({
  legacyResourceId: z.string(),
  title: z.string(),
  descriptionHtml: z.string(),
  vendor: z.string(),
  productType: z.string(),
  handle: z.string(),
  status: z.string(),
  tags: z.array(z.string()),
  publishedAt: z.string().nullable(),
  createdAt: z.string(),
  updatedAt: z.string(),
  seo: z.object({ title: z.string().nullable(), description: z.string().nullable() }),
  options: z.array(z.object({ name: z.string(), position: z.number(), values: z.array(z.string()) })),
  media: z.object({
    nodes: z.array(
      z.object({
        image: z
          .object({
            url: z.string(),
            altText: z.string().nullable(),
            width: z.number().nullable(),
            height: z.number().nullable(),
          })
          .nullish(),
      }),
    ),
  }),
  variants: page(variantNode),
});
export type ProductNode = z.infer<typeof productNode>;

export const shopQuery = {
  text: "query Shop { shop { name email myshopifyDomain currencyCode } }",
  shape: z.object({
    shop: z.object({
      name: z.string(),
      email: z.string(),
      myshopifyDomain: z.string(),
      currencyCode: z.string(),
    }),
  }),
};

export const countQuery = {
  text: "query Count($query: String) { productsCount(query: $query) { count } shop { currencyCode } }",
  shape: z.object({
    productsCount: z.object({ count: z.number() }).nullable(),
    shop: z.object({ currencyCode: z.string() }),
  }),
};

export const productsQuery = {
  text: `query Products($after: String, $query: String) {
    products(first: 8, after: $after, sortKey: ID, query: $query) {
      nodes { ${productFields} variants(first: 10) { nodes { ${variantFields} } pageInfo { hasNextPage endCursor } } }
      pageInfo { hasNextPage endCursor }
    }
  }`,
  shape: z.object({ products: page(productNode) }),
};

export const productQuery = {
  text: `query Product($id: ID!, $after: String) {
    product(id: $id) {
      ${productFields} variants(first: 100, after: $after) { nodes { ${variantFields} } pageInfo { hasNextPage endCursor } }
    }
  }`,
  shape: z.object({ product: productNode.nullable() }),
};

const locationNode = z.object({ legacyResourceId: z.string(), name: z.string(), isActive: z.boolean() });
export const locationsQuery = {
  text: `query Locations($after: String) {
    locations(first: 50, after: $after, includeInactive: true) {
      nodes { legacyResourceId name isActive } pageInfo { hasNextPage endCursor }
    }
  }`,
  shape: z.object({ locations: page(locationNode) }),
};

const levelNode = z.object({
  updatedAt: z.string(),
  item: z.object({ legacyResourceId: z.string() }),
  quantities: z.array(z.object({ quantity: z.number() })),
});
export type LevelNode = z.infer<typeof levelNode>;
export const levelsQuery = {
  text: `query Levels($location: ID!, $after: String, $query: String) {
    location(id: $location) {
      inventoryLevels(first: 200, after: $after, query: $query) {
        nodes { updatedAt item { legacyResourceId } quantities(names: ["available"]) { quantity } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }`,
  shape: z.object({ location: z.object({ inventoryLevels: page(levelNode) }).nullable() }),
};

const collectionNode = z.object({
  legacyResourceId: z.string(),
  title: z.string(),
  descriptionHtml: z.string(),
  handle: z.string(),
  sortOrder: z.string(),
  updatedAt: z.string(),
  image: z.object({ url: z.string(), altText: z.string().nullable() }).nullable(),
  ruleSet: z.object({ appliedDisjunctively: z.boolean() }).nullable(),
});
export type CollectionNode = z.infer<typeof collectionNode>;
export const collectionsQuery = {
  text: `query Collections($after: String, $query: String) {
    collections(first: 50, after: $after, sortKey: ID, query: $query) {
      nodes {
        legacyResourceId title descriptionHtml handle sortOrder updatedAt image { url altText }
        ruleSet { appliedDisjunctively }
      }
      pageInfo { hasNextPage endCursor }
    }
  }`,
  shape: z.object({ collections: page(collectionNode) }),
};

export const membersQuery = {
  text: `query Members($id: ID!, $after: String) {
    collection(id: $id) {
      products(first: 250, after: $after) { nodes { legacyResourceId } pageInfo { hasNextPage endCursor } }
    }
  }`,
  shape: z.object({
    collection: z.object({ products: page(z.object({ legacyResourceId: z.string() })) }).nullable(),
  }),
};
