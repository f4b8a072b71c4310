{#- Every indicator of the table is described in `indicatoren`. -#}
{% test indicator_is_beschreven(model) %}
    select distinct cijfers.indicator
    from {{ model }} as cijfers
    left join {{ ref("indicatoren") }} as indicatoren on cijfers.indicator = indicatoren.code
    where indicatoren.code is null
{% endtest %}
