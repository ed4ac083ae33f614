-- Whom the jobs depend on whose kinds were registered without saying so: limits and circuit breakers go by it. What
-- Stripe or Razorpay may have taken says so where it is enqueued.
update ops.job_kinds k set provider = p.provider
from (values
  ('stripe', array['billing.auto_reload', 'billing.change_subscription', 'billing.extend_trial',
    'billing.follow_checkout', 'billing.look_at_subscription', 'billing.meter_errors', 'billing.refresh_payout_account',
    'billing.report_usage', 'billing.return_payout', 'billing.send_payout', 'billing.sync_disputes',
    'billing.sync_refunds', 'billing.undo_surplus']),
  ('shopify', array['shopify.sync', 'shopify.refresh', 'shopify.verify_webhooks', 'commerce.publish_product']),
  -- sends have a limit key each account: one that is throttled rests alone
  ('instagram', array['social.send'])
) p (provider, kinds)
where k.kind = any (p.kinds);

-- Source: Stripe, rate limits (100 calls a second in all). A job has one call at a time on its way, of some 300 ms.
insert into ops.limits (scope, subject, max_running, description) values
  ('provider', 'stripe', 20, 'Jobs that ask Stripe at the same time; what the API''s users call comes beside them.');
