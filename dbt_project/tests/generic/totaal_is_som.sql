{#- The row with the total code of a column equals the sum of the other codes. -#}
{% test totaal_is_som(model, kolom, totaal, telling, per) %}
    select 1 as ongelijk
    from {{ model }}
    where {{ telling }} is not null
    group by {{ per | join(", ") }}
    having
        sum(case when {{ kolom }} = '{{ totaal }}' then {{ telling }} else 0 end)
        != sum(case when {{ kolom }} = '{{ totaal }}' then 0 else {{ telling }} end)
{% endtest %}
