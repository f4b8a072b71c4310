{{ config(enabled=heeft_leveringen("bedrijven", "brp", doel="zzp")) }}

-- Owners are placed by the BRP, in the borders of its addresses; without a BRP nobody knows who lives here.
with
plaatsing as (
    {{ plaatsing(ref("stg_zzp__brp")) }}
)

select
    peildata.peildatum,
    peildata.periode,
    peildata.periode_start,
    peildata.jaar,
    plaatsing.indeling_jaar,
    peildata.is_geleverd and plaatsing.herkomst is not null as is_geleverd,
    plaatsing.is_geplaatst,
    {{ zwakste_herkomst(["peildata.herkomst", "plaatsing.herkomst"]) }} as herkomst
from {{ ref("int_zzp__peildata") }} as peildata
cross join plaatsing
