{#- Two indicators from one count per base unit: the number itself, and the number per 1,000 inhabitants.

    Every region of every period gets a row: what was delivered and not counted is zero, what was not delivered is
    unknown. Numerator and denominator share year and borders, or the rate is unknown.

    Args:
        telling: relation with `peildatum`, `basis_code`, one row for each that counts.
        peildata: relation with `peildatum`, `periode`, `periode_start`, `jaar`, `indeling_jaar`, `is_geleverd`,
            `is_geplaatst`, `herkomst`.
        aantal, per_1000: codes of the two indicators.
        eenheid: unit of the number. -#}
{% macro regio_cijfers(telling, peildata, aantal, per_1000, eenheid) %}
    with
    rooster as (
        select distinct
            peildata.peildatum,
            peildata.periode,
            peildata.periode_start,
            peildata.jaar,
            peildata.indeling_jaar,
            regios.regio_code,
            regios.regio_naam,
            regios.regio_niveau,
            peildata.is_geleverd
            and (peildata.is_geplaatst or regios.regio_niveau in ('GM', 'ONB')) as is_bekend,
            {{ zwakste_herkomst(["peildata.herkomst", "regios.herkomst"]) }} as herkomst
        from {{ peildata }} as peildata
        inner join {{ ref("int_regios__niveaus") }} as regios on peildata.indeling_jaar = regios.indeling_jaar
    ),

    geteld as (
        select
            telling.peildatum,
            regios.regio_code,
            count(*) as aantal
        from {{ telling }} as telling
        inner join {{ peildata }} as peildata on telling.peildatum = peildata.peildatum
        inner join {{ ref("int_regios__niveaus") }} as regios
            on peildata.indeling_jaar = regios.indeling_jaar and telling.basis_code = regios.basis_code
        group by telling.peildatum, regios.regio_code
    ),

    cijfers as (
        select
            rooster.*,
            case when rooster.is_bekend then coalesce(geteld.aantal, 0) end as teller,
            case when rooster.is_bekend then inwoners.aantal_inwoners end as noemer,
            inwoners.vaststelling as inwoners_vaststelling,
            inwoners.herkomst as inwoners_herkomst
        from rooster
        left join geteld on rooster.peildatum = geteld.peildatum and rooster.regio_code = geteld.regio_code
        left join {{ ref("int_inwoners__per_regio") }} as inwoners
            on
                rooster.regio_code = inwoners.regio_code
                and rooster.jaar = inwoners.jaar
                and rooster.indeling_jaar = inwoners.jaar
    )

    select
        regio_code,
        regio_naam,
        regio_niveau,
        indeling_jaar,
        periode,
        periode_start,
        '{{ aantal }}' as indicator,
        {{ cijfer("teller") }} as waarde,
        teller,
        cast(null as bigint) as noemer,
        '{{ eenheid }}' as eenheid,
        case when teller is null then 'onbekend' else 'verstrekt' end as status,
        'definitief' as vaststelling,
        herkomst
    from cijfers
    union all
    select
        regio_code,
        regio_naam,
        regio_niveau,
        indeling_jaar,
        periode,
        periode_start,
        '{{ per_1000 }}' as indicator,
        {{ cijfer(quotient("1000 * teller", "noemer")) }} as waarde,
        teller,
        noemer,
        'per 1.000 inwoners' as eenheid,
        case
            when teller is null then 'onbekend'
            when regio_niveau = 'ONB' or noemer = 0 then 'nvt'
            when noemer is null then 'onbekend'
            else 'verstrekt'
        end as status,
        coalesce(inwoners_vaststelling, 'definitief') as vaststelling,
        {{ zwakste_herkomst(["herkomst", "inwoners_herkomst"]) }} as herkomst
    from cijfers
{% endmacro %}

{#- All indicators that the marts of this factory describe under `meta.indicatoren`, as rows of literals. -#}
{% macro indicator_definities() -%}
    {%- set fields = ["code", "naam", "definitie", "eenheid", "teller", "noemer", "thema", "eigenaar", "bron"] -%}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() | selectattr("resource_type", "equalto", "model")
            | sort(attribute="name") -%}
            {%- for definitie in node.config.meta.get("indicatoren", []) -%}
                {%- do found.append(dict(definitie, thema=node.config.meta.thema, eigenaar=node.config.meta.eigenaar,
                    tabel=node.name)) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {%- for definitie in found %}
    select
        {%- for field in fields %}
        {{ "cast(null as varchar)" if definitie.get(field) is none
            else "'" ~ (definitie[field] | string | replace("'", "''")) ~ "'" }} as {{ field }},
        {%- endfor %}
        '{{ definitie.tabel }}' as tabel
        {%- if not loop.last %}
    union all
        {%- endif %}
    {%- else %}
    select
        {%- for field in fields %}
        cast(null as varchar) as {{ field }},
        {%- endfor %}
        cast(null as varchar) as tabel
    where false
    {%- endfor %}
{%- endmacro %}
