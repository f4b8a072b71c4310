{#- None of these columns is NULL in any row. -#}
{% test gevuld(model, kolommen) %}
    select 1 as leeg
    from {{ model }}
    where
        {%- for kolom in kolommen %}
        {{ "or " if not loop.first }}{{ kolom }} is null
        {%- endfor %}
{% endtest %}
