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
            max(herkomst) as herkomst
        from {{ register }}
        where {{ voorwaarde }}
        group by indeling_jaar
    ) as register on hierarchie.indeling_jaar = register.indeling_jaar
    order by register.indeling_jaar is null, hierarchie.indeling_jaar desc
    limit 1
{%- endmacro %}
