{#- What is asserted holds in every row (NULL counts as not holding). -#}
{% test bewering(model, dat) %}
    select 1 as weerlegd
    from {{ model }}
    where not coalesce({{ dat }}, false)
{% endtest %}
