{#- In every period the parts add up: the buurten of a wijk to the wijk, and these with the unknown buurt to the gemeente.

    Args:
        kolom: the count that adds up.
        per: columns that make separate tables.
        niveaus: the levels that are there, from small to large. -#}
{% test delen_tellen_op(model, kolom, per, niveaus) %}
    with
    cijfers as (
        select
            cijfers.*,
            regios.ouder_code
        from {{ model }} as cijfers
        left join {{ ref("regios") }} as regios
            on cijfers.regio_code = regios.regio_code and cijfers.indeling_jaar = regios.indeling_jaar
        where cijfers.{{ kolom }} is not null
    ),

    delen as (
        {%- for niveau in niveaus[:-1] %}
        select
            {{ per | join(", ") }},
            ouder_code as regio_code,
            sum({{ kolom }}) as som
        from cijfers
        where regio_niveau in ('{{ niveau }}'{{ ", 'ONB'" if loop.last }})
        group by {{ per | join(", ") }}, ouder_code
        {{ "union all" if not loop.last }}
        {%- endfor %}
    )

    select 1 as ongelijk
    from cijfers
    left join delen using ({{ per | join(", ") }}, regio_code)
    where
        cijfers.regio_niveau in ('{{ niveaus[1:] | join("', '") }}')
        and coalesce(delen.som, -1) != cijfers.{{ kolom }}
        -- where nobody could be placed only the gemeente is known
        and exists (select 1 from cijfers where regio_niveau = '{{ niveaus[0] }}')
{% endtest %}
