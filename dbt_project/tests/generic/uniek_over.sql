{#- One row per combination of these columns. -#}
{% test uniek_over(model, kolommen) %}
    select count(*) as aantal
    from {{ model }}
    group by {{ kolommen | join(", ") }}
    having count(*) > 1
{% endtest %}
