// The part of Shopify's Admin API schema that Backlot uses, of version 2026-10: a query that asks for anything else is
// refused, as it would be there. Source: https://shopify.dev/docs/api/admin-graphql.

import { buildSchema } from "graphql";

export const schema = buildSchema(/* GraphQL */ `
  scalar DateTime
  scalar UnsignedInt64
  scalar HTML
  scalar Money
  scalar Decimal
  scalar URL

  enum ProductSortKeys { ID UPDATED_AT TITLE }
  enum CollectionSortKeys { ID UPDATED_AT TITLE }
  enum ProductStatus { ACTIVE ARCHIVED DRAFT UNLISTED }
  enum ProductVariantInventoryPolicy { DENY CONTINUE }
  enum CollectionSortOrder { MANUAL BEST_SELLING ALPHA_ASC ALPHA_DESC PRICE_DESC PRICE_ASC CREATED_DESC CREATED }
  enum WeightUnit { GRAMS KILOGRAMS OUNCES POUNDS }
  enum WebhookSubscriptionFormat { JSON XML }
  enum WebhookSubscriptionTopic {
    APP_UNINSTALLED
    PRODUCTS_CREATE PRODUCTS_UPDATE PRODUCTS_DELETE
    COLLECTIONS_CREATE COLLECTIONS_UPDATE COLLECTIONS_DELETE
    INVENTORY_LEVELS_CONNECT INVENTORY_LEVELS_UPDATE INVENTORY_LEVELS_DISCONNECT
    INVENTORY_ITEMS_CREATE INVENTORY_ITEMS_UPDATE INVENTORY_ITEMS_DELETE
    ORDERS_CREATE ORDERS_PAID ORDERS_CANCELLED REFUNDS_CREATE
  }

  type PageInfo { hasNextPage: Boolean! endCursor: String }
  type Count { count: Int! precision: String! }
  type Shop { id: ID! name: String! email: String! myshopifyDomain: String! currencyCode: String! url: URL! }
  type SEO { title: String description: String }
  type ProductOption { id: ID! name: String! position: Int! values: [String!]! }
  type Image { id: ID url: URL! altText: String width: Int height: Int }
  enum MediaContentType { IMAGE VIDEO EXTERNAL_VIDEO MODEL_3D }
  enum MediaStatus { UPLOADED PROCESSING READY FAILED }
  type MediaError { code: String! message: String! details: String }
  interface Media { id: ID! alt: String status: MediaStatus! mediaErrors: [MediaError!]! }
  type MediaImage implements Media {
    id: ID! alt: String status: MediaStatus! mediaErrors: [MediaError!]! image: Image
  }
  type MediaConnection { nodes: [Media!]! pageInfo: PageInfo! }
  type SelectedOption { name: String! value: String! }
  type MoneyV2 { amount: Decimal! currencyCode: String! }
  type Weight { unit: WeightUnit! value: Float! }
  type InventoryItemMeasurement { weight: Weight }
  type InventoryItem {
    id: ID! legacyResourceId: UnsignedInt64! sku: String tracked: Boolean! requiresShipping: Boolean!
    unitCost: MoneyV2 measurement: InventoryItemMeasurement! updatedAt: DateTime!
  }
  type InventoryQuantity { name: String! quantity: Int! }
  type InventoryLevel {
    id: ID! item: InventoryItem! location: Location! updatedAt: DateTime!
    quantities(names: [String!]!): [InventoryQuantity!]!
  }
  type InventoryLevelConnection { nodes: [InventoryLevel!]! pageInfo: PageInfo! }
  type Location {
    id: ID! legacyResourceId: UnsignedInt64! name: String! isActive: Boolean!
    inventoryLevels(first: Int, after: String, query: String): InventoryLevelConnection!
  }
  type LocationConnection { nodes: [Location!]! pageInfo: PageInfo! }
  type ProductVariant {
    id: ID! legacyResourceId: UnsignedInt64! title: String! sku: String barcode: String price: Money!
    compareAtPrice: Money inventoryPolicy: ProductVariantInventoryPolicy! inventoryQuantity: Int taxable: Boolean!
    position: Int! selectedOptions: [SelectedOption!]! image: Image inventoryItem: InventoryItem!
    createdAt: DateTime! updatedAt: DateTime!
  }
  type ProductVariantConnection { nodes: [ProductVariant!]! pageInfo: PageInfo! }
  type Product {
    id: ID! legacyResourceId: UnsignedInt64! title: String! descriptionHtml: HTML! vendor: String!
    productType: String! handle: String! status: ProductStatus! tags: [String!]! publishedAt: DateTime
    createdAt: DateTime! updatedAt: DateTime! seo: SEO! options: [ProductOption!]!
    media(first: Int, after: String): MediaConnection!
    variants(first: Int, after: String): ProductVariantConnection!
  }
  type ProductConnection { nodes: [Product!]! pageInfo: PageInfo! }
  type CollectionRuleSet { appliedDisjunctively: Boolean! }
  type Collection {
    id: ID! legacyResourceId: UnsignedInt64! title: String! descriptionHtml: HTML! handle: String!
    sortOrder: CollectionSortOrder! updatedAt: DateTime! image: Image ruleSet: CollectionRuleSet
    products(first: Int, after: String): ProductConnection!
  }
  type CollectionConnection { nodes: [Collection!]! pageInfo: PageInfo! }
  type WebhookSubscription { id: ID! topic: WebhookSubscriptionTopic! uri: String! createdAt: DateTime! updatedAt: DateTime! }
  type WebhookSubscriptionConnection { nodes: [WebhookSubscription!]! pageInfo: PageInfo! }

  type Query {
    shop: Shop!
    productsCount(query: String): Count
    products(first: Int, after: String, sortKey: ProductSortKeys, query: String): ProductConnection!
    product(id: ID!): Product
    collections(first: Int, after: String, sortKey: CollectionSortKeys, query: String): CollectionConnection!
    collection(id: ID!): Collection
    locations(first: Int, after: String, includeInactive: Boolean): LocationConnection!
    location(id: ID): Location
    webhookSubscriptions(first: Int, after: String): WebhookSubscriptionConnection!
  }

  type UserError { field: [String!] message: String! }
  input WebhookSubscriptionInput { uri: String format: WebhookSubscriptionFormat }
  input ProductUpdateInput { id: ID title: String descriptionHtml: HTML tags: [String!] }
  input CreateMediaInput { originalSource: String! alt: String mediaContentType: MediaContentType! }
  type ProductUpdatePayload { product: Product userErrors: [UserError!]! }
  type WebhookSubscriptionCreatePayload { userErrors: [UserError!]! webhookSubscription: WebhookSubscription }
  type WebhookSubscriptionDeletePayload { userErrors: [UserError!]! deletedWebhookSubscriptionId: ID }
  type Mutation {
    productUpdate(product: ProductUpdateInput, media: [CreateMediaInput!]): ProductUpdatePayload
    webhookSubscriptionCreate(topic: WebhookSubscriptionTopic!, webhookSubscription: WebhookSubscriptionInput!):
      WebhookSubscriptionCreatePayload
    webhookSubscriptionDelete(id: ID!): WebhookSubscriptionDeletePayload
  }
`);
