{{ config(enabled=heeft_leveringen("bus", "brp", doel="bijstand")) }}

{{ regio_cijfers(
    telling=ref("int_bijstand__per_persoon_en_peildatum"),
    peildata=ref("int_bijstand__peildata"),
    aantal="bijstand_personen",
    per_1000="bijstand_per_1000_inwoners",
    eenheid="personen",
) }}
