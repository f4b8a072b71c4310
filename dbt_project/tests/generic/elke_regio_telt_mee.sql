{#- Every region of the hierarchy, at these levels, has a row in every period and indicator. -#}
{% test elke_regio_telt_mee(model, per, niveaus) %}
    with
    verwacht as (
        select
            indeling_jaar,
            count(distinct regio_code) as aantal
        from {{ ref("int_regios__niveaus") }}
        where regio_niveau in ('{{ niveaus | join("', '") }}')
        group by indeling_jaar
    ),

    gevonden as (
        select
            indeling_jaar,
            {{ per | join(", ") }},
            count(distinct regio_code) as aantal
        from {{ model }}
        group by indeling_jaar, {{ per | join(", ") }}
    )

    select 1 as ongelijk
    from gevonden
    left join verwacht using (indeling_jaar)
    where gevonden.aantal != coalesce(verwacht.aantal, 0)
{% endtest %}
