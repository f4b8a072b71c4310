{#- Where engines give different answers to the same SQL. Each macro is dispatched: `default__` is right on every
    engine known to us, a `<engine>__` variant stands beside it where one needs other words. -#}

{#- A quotient, NULL where the denominator is zero (1/0 is inf on one engine and an error on another). -#}
{% macro quotient(teller, noemer) -%}
    {{- return(adapter.dispatch("quotient", "datafabriek")(teller, noemer)) -}}
{%- endmacro %}

{% macro default__quotient(teller, noemer) -%}
    (cast({{ teller }} as double) / nullif(cast({{ noemer }} as double), 0))
{%- endmacro %}

{#- A whole number, halves away from zero (a bare cast rounds on one engine and cuts off on another). -#}
{% macro heel(getal) -%}
    {{- return(adapter.dispatch("heel", "datafabriek")(getal)) -}}
{%- endmacro %}

{% macro default__heel(getal) -%}
    cast(round({{ getal }}, 0) as bigint)
{%- endmacro %}

{#- A published figure: DECIMAL, rounded by rule, so that two runs give identical files. -#}
{% macro cijfer(getal, decimalen=2) -%}
    {{- return(adapter.dispatch("cijfer", "datafabriek")(getal, decimalen)) -}}
{%- endmacro %}

{% macro default__cijfer(getal, decimalen) -%}
    cast(round({{ getal }}, {{ decimalen }}) as decimal(18, {{ decimalen }}))
{%- endmacro %}

{#- Texts joined, NULL read as empty (concat with NULL is NULL on one engine and not on another). -#}
{% macro samengevoegd(delen) -%}
    {{- return(adapter.dispatch("samengevoegd", "datafabriek")(delen)) -}}
{%- endmacro %}

{% macro default__samengevoegd(delen) -%}
    ({% for deel in delen %}coalesce({{ deel }}, ''){% if not loop.last %} || {% endif %}{% endfor %})
{%- endmacro %}

{#- A row for the first day of every month from `eerste` to `laatste`, as an expression in a select list. -#}
{% macro maandreeks(eerste, laatste) -%}
    {{- return(adapter.dispatch("maandreeks", "datafabriek")(eerste, laatste)) -}}
{%- endmacro %}

{% macro default__maandreeks(eerste, laatste) -%}
    explode(sequence({{ eerste }}, {{ laatste }}, interval 1 month))
{%- endmacro %}

{% macro duckdb__maandreeks(eerste, laatste) -%}
    cast(unnest(generate_series({{ eerste }}, {{ laatste }}, interval 1 month)) as date)
{%- endmacro %}

{#- The first day of the month after `datum`. -#}
{% macro volgende_maand(datum) -%}
    {{- return(adapter.dispatch("volgende_maand", "datafabriek")(datum)) -}}
{%- endmacro %}

{% macro default__volgende_maand(datum) -%}
    cast(add_months(trunc({{ datum }}, 'MM'), 1) as date)
{%- endmacro %}

{% macro duckdb__volgende_maand(datum) -%}
    cast(date_trunc('month', {{ datum }}) + interval 1 month as date)
{%- endmacro %}
