{{ config(enabled=heeft_leveringen("bedrijven", doel="zzp")) }}

{% if heeft_leveringen("brp", doel="zzp") %}
    select * from (
        {{ regio_cijfers(
            telling=ref("int_zzp__per_eigenaar_en_peildatum"),
            peildata=ref("int_zzp__peildata_eigenaren"),
            aantal="zzp_woonachtig",
            per_1000="zzp_woonachtig_per_1000_inwoners",
            eenheid="personen",
        ) }}
    ) as woonachtig
    union all
{% endif %}
select * from (
    {{ regio_cijfers(
        telling=ref("int_zzp__vestigingen"),
        peildata=ref("int_zzp__peildata"),
        aantal="zzp_vestigingen",
        per_1000="zzp_vestigingen_per_1000_inwoners",
        eenheid="vestigingen",
    ) }}
) as vestigingen
