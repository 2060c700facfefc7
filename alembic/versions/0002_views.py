"""The views for analysts: one row per record, one row per link."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create view crm_sync_links as
        select l.record_id, l.entity as entity_type, l.account, a.connector, l.type as remote_type,
               l.remote_id, l.state, l.created_at, l.synced_at
        from links l left join accounts a on a.name = l.account
        """
    )
    op.execute(
        """
        create view crm_sync_records as
        select r.id,
               r.entity as entity_type,
               ids.close_id,
               ids.hubspot_id,
               ids.salesforce_id,
               r.fields ->> 'email' as email,
               case when r.entity = 'company' then r.fields ->> 'name'
                    else company.fields ->> 'name' end as company_name,
               coalesce(r.synced_at, r.created_at) as last_synced_at,
               r.source as sync_source,
               r.hash as sync_hash
        from records r
        left join records company
          on r.entity <> 'company' and company.id = (r.fields ->> 'company')::uuid
        left join lateral (
            select (array_agg(l.remote_id order by a.position)
                        filter (where a.connector = 'close'))[1] as close_id,
                   (array_agg(l.remote_id order by a.position)
                        filter (where a.connector = 'hubspot'))[1] as hubspot_id,
                   (array_agg(l.remote_id order by a.position)
                        filter (where a.connector = 'salesforce'))[1] as salesforce_id
            from links l join accounts a on a.name = l.account
            where l.record_id = r.id and l.state = 'live'
        ) ids on true
        where r.state = 'live'
        """
    )


def downgrade() -> None:
    op.execute("drop view crm_sync_records")
    op.execute("drop view crm_sync_links")
