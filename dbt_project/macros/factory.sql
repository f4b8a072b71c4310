{#- Does this factory take in all of these deliveries, and for this purpose? A model that needs one it lacks is
    disabled. -#}
{% macro heeft_leveringen() -%}
    {%- set aanwezig = var("doelen").get(kwargs.doel, []) if kwargs.doel else var("leveringen") -%}
    {{- return((varargs | reject("in", aanwezig) | list) == []) -}}
{%- endmacro %}

{#- The factory's own municipalities, as a list for `in (…)`. -#}
{% macro eigen_gemeenten() -%}
    {%- for code in var("gemeenten") %}'{{ code }}'{% if not loop.last %}, {% endif %}{% else %}null{% endfor -%}
{%- endmacro %}

{#- Origin where a table says nothing: a factory of examples holds no measured registrations. -#}
{% macro eigen_herkomst() -%}
    '{{ "synthetisch" if var("is_voorbeeld") else "gemeten" }}'
{%- endmacro %}

{#- A figure is as good as the weakest of its inputs (DESIGN, decision 5): one synthetic input makes it synthetic. -#}
{% macro zwakste_herkomst(kolommen) -%}
    case
        {%- for soort in ["synthetisch", "geschat", "herrekend"] %}
        when '{{ soort }}' in ({{ kolommen | join(", ") }}) then '{{ soort }}'
        {%- endfor %}
        else 'gemeten'
    end
{%- endmacro %}

{#- The same over rows: the weakest origin in a group or, with `per`, in a window over those columns. -#}
{% macro zwakste_van(kolom, per=none) -%}
    case
        max(case {{ kolom }} when 'synthetisch' then 3 when 'geschat' then 2 when 'herrekend' then 1 else 0 end)
        {%- if per %} over (partition by {{ per | join(", ") }}){% endif %}
        when 3 then 'synthetisch' when 2 then 'geschat' when 1 then 'herrekend' when 0 then 'gemeten'
    end
{%- endmacro %}

{#- CBS's status of a period in the words of the factory; no status means that nothing more is expected. -#}
{% macro vaststelling(periode_status) -%}
    case lower({{ periode_status }})
        when 'voorlopig' then 'voorlopig'
        when 'nadervoorlopig' then 'nader_voorlopig'
        else 'definitief'
    end
{%- endmacro %}

{#- The code under which what stands in an unknown buurt of a municipality is counted: GM0518 -> ONB0518. -#}
{% macro onbekende_buurt(gemeente_code) -%}
    ('ONB' || substr({{ gemeente_code }}, 3, 4))
{%- endmacro %}

{#- In which borders a register was placed: one row with the newest `indeling_jaar` that both the register and CBS's
    hierarchy know (else CBS's newest), and whether any buurt was found in it.

    Args:
        register: relation with `indeling_jaar`, `buurt_code`, `herkomst`.
        voorwaarde: which of its rows count. -#}
{% macro plaatsing(register, voorwaarde="true") -%}
    select
        hierarchie.indeling_jaar,
        coalesce(register.aantal_geplaatst, 0) > 0 as is_geplaatst,
        register.herkomst
    from (select distinct indeling_jaar from {{ ref("int_regios__hierarchie") }}) as hierarchie
    left join (
        select
            indeling_jaar,
            count(buurt_code) as aantal_geplaatst,
            {{ zwakste_van("herkomst") }} as herkomst
        from {{ register }}
        where {{ voorwaarde }}
        group by indeling_jaar
    ) as register on hierarchie.indeling_jaar = register.indeling_jaar
    order by register.indeling_jaar is null, hierarchie.indeling_jaar desc
    limit 1
{%- endmacro %}

{#- The address periods of a purpose, as its BRP has them. -#}
{% macro adresperioden(bron) -%}
    with
    source as (
        select * from {{ bron }}
    ),

    renamed as (
        select
            persoon_pseudoniem,
            buurt_code,
            gemeente_code,
            cast(indeling_jaar as integer) as indeling_jaar,
            geldig_van,
            geldig_tot,
            herkomst
        from source
    )

    select * from renamed
{%- endmacro %}

{#- Where persons live on a reference date: `peildatum`, `persoon_pseudoniem`, `buurt_code`, `gemeente_code`; NULL where
    the BRP does not tell.

    Args:
        personen: relation with `peildatum`, `indeling_jaar`, `persoon_pseudoniem`, one row for each.
        brp: the address periods of the same purpose.
        datum: its column with the day on which the address must hold.
        anders: its column with the gemeente of who is not found. -#}
{% macro geplaatst_door_brp(personen, brp, datum="peildatum", anders=none) -%}
    select
        woonplaats.peildatum,
        woonplaats.persoon_pseudoniem,
        hierarchie.buurt_code,
        coalesce(
            hierarchie.gemeente_code, woonplaats.woongemeente_code{% if anders %}, woonplaats.{{ anders }}{% endif %}
        ) as gemeente_code
    from (
        -- overlapping address periods happen: the last to begin counts, and one that was placed before one that was not
        select
            personen.*,
            brp.gemeente_code as woongemeente_code,
            case when brp.indeling_jaar = personen.indeling_jaar then brp.buurt_code end as buurt_code,
            row_number() over (
                partition by personen.peildatum, personen.persoon_pseudoniem
                order by brp.geldig_van desc nulls last, brp.buurt_code asc nulls last
            ) as volgorde
        from {{ personen }} as personen
        left join {{ brp }} as brp
            on
                personen.persoon_pseudoniem = brp.persoon_pseudoniem
                and personen.{{ datum }} >= brp.geldig_van
                -- `or … is null` here would cost the engine its hash join: hours instead of a second
                and personen.{{ datum }} < coalesce(brp.geldig_tot, cast('9999-12-31' as date))
                and brp.gemeente_code in ({{ eigen_gemeenten() }})
    ) as woonplaats
    left join {{ ref("int_regios__hierarchie") }} as hierarchie
        on
            woonplaats.indeling_jaar = hierarchie.indeling_jaar
            and woonplaats.buurt_code = hierarchie.buurt_code
    where woonplaats.volgorde = 1
{%- endmacro %}
